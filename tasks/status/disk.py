"""What the lake takes on disk, by folder."""

from expectations.catalogue import LAYERS, stored
from tasks.lake.tables import Lake
from tasks.places import size
from tasks.status.records import Disk

OTHERS = ("models", "reports")


def disk(lake: Lake) -> tuple[Disk, ...]:
    """Each layer, the kept models, the pages, and the rest. Older versions count too."""
    newest = dict.fromkeys(LAYERS, 0)
    for name, table in stored().items():
        newest[table.layer] += sum(lake.pin(name).actions.column("size_bytes").to_pylist())
    root = lake.root.absolute()
    found = []
    for layer in (*LAYERS, *OTHERS):
        n_bytes, n_files = size(root / layer)
        found.append(Disk(layer, n_bytes, newest.get(layer, n_bytes), n_files))
    return tuple(found)

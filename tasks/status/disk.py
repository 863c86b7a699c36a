"""What the lake takes on disk, by folder."""

import os
from pathlib import Path

from expectations.catalogue import LAYERS, stored
from tasks.lake.tables import Lake
from tasks.places import Place, StorePath, size
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
        n_bytes, n_files = _size(root / layer)
        found.append(Disk(layer, n_bytes, newest.get(layer, n_bytes), n_files))
    return tuple(found)


def _size(folder: Place) -> tuple[int, int]:
    """Bytes and number of the files below a folder; what goes meanwhile counts no more."""
    if isinstance(folder, StorePath):
        return size(folder)
    n_bytes, n_files, open_folders = 0, 0, [folder]
    while open_folders:
        try:
            with os.scandir(open_folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        open_folders.append(Path(entry.path))
                    else:
                        n_bytes += entry.stat(follow_symlinks=False).st_size
                        n_files += 1
        except FileNotFoundError:
            continue
    return n_bytes, n_files

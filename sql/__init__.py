"""How each table is made: one SELECT per file, in numbered layers."""

from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent
_FOLDERS = {
    "clean": "1_clean",
    "features": "2_features",
    "train": "3_train",
    "serve": "4_serve",
    "ops": "5_ops",
}


@cache
def read(name: str) -> str:
    """The text of `name`.sql below this folder, such as `queries/report_stages`."""
    return (ROOT / f"{name}.sql").read_text(encoding="utf-8")


def read_table(table: str) -> str:
    """The SELECT that makes a table, such as `features.behaviours`."""
    layer, short_name = table.split(".", 1)
    return read(f"{_FOLDERS.get(layer, layer)}/{short_name}")

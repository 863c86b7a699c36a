"""Places that a test knows to lie on disk."""

from pathlib import Path

from tasks.places import Place


def on_disk(place: Place) -> Path:
    """The place, as a path of this machine."""
    assert isinstance(place, Path)
    return place

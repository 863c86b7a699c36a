"""Numbers as people read them."""

from collections.abc import Callable
from datetime import datetime

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")
NOTHING = "–"


def count(value: int | None) -> str:
    """A whole number with separators, `1,234`."""
    return NOTHING if value is None else f"{value:,}"


def share(part: float | None, whole: float | None = 1) -> str:
    """A part of a whole in per cent, `12.5 %`; a dash where there is no whole."""
    if part is None or not whole:
        return NOTHING
    percent = 100 * part / whole
    return f"{percent:.1f} %" if 0 < percent < 99.95 else f"{percent:.0f} %"


def size(n_bytes: float | None) -> str:
    """Bytes with a unit, `1.5 MiB`."""
    if n_bytes is None:
        return NOTHING
    step = 0
    while n_bytes >= 1024 and step < len(_BYTES) - 1:
        n_bytes, step = n_bytes / 1024, step + 1
    return f"{n_bytes:.0f} {_BYTES[step]}" if step == 0 else f"{n_bytes:.1f} {_BYTES[step]}"


def seconds(value: float | None) -> str:
    """A duration, `0.25 s`, `12.5 s` or `3 min 05 s`."""
    if value is None:
        return NOTHING
    if value >= 120:
        return f"{int(value) // 60} min {int(value) % 60:02d} s"
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def moment(value: datetime | None) -> str:
    """A moment in UTC, to the second."""
    return NOTHING if value is None else f"{value:%Y-%m-%d %H:%M:%S} UTC"


def brief(text: str | None, length: int = 12) -> str:
    """The beginning of a long hash."""
    if not text:
        return NOTHING
    return text if len(text) <= length else text[:length] + "…"


FILTERS: dict[str, Callable[..., str]] = {
    "count": count,
    "share": share,
    "size": size,
    "seconds": seconds,
    "moment": moment,
    "brief": brief,
}

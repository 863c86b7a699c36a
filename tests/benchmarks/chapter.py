"""What a chapter of the book is made of, and the small words that all are told with."""

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Results = Any  # parsed JSON


@dataclass(frozen=True)
class Origin:
    """What a file says of where its figures are from; None where it does not say."""

    machine: str | None = None
    versions: str | None = None
    dates: str | None = None
    seeds: str | None = None


@dataclass(frozen=True)
class Goal:
    """A figure, and what it is to reach; it is at least as great as the bound, or at most."""

    what: str
    value: float | None  # None: not measured
    bound: float
    at_most: bool = False
    n_seeds: int | None = None
    wanted_seeds: int = 1

    @property
    def verdict(self) -> str:
        """Met, or how it falls short."""
        if self.value is None:
            return "not measured"
        good = self.value <= self.bound if self.at_most else self.value >= self.bound
        if not good:
            return "NOT MET"
        if self.n_seeds is not None and self.n_seeds < self.wanted_seeds:
            return f"met on {self.n_seeds} of {self.wanted_seeds} seeds, the others not measured"
        return "met"


@dataclass(frozen=True)
class Table:
    """Rows under a head, as many cells each."""

    head: tuple[str, ...]
    rows: list[tuple[object, ...]]


@dataclass(frozen=True)
class Chapter:
    """One benchmark's results."""

    origin: Origin
    tables: list[Table]
    goals: list[Goal] = field(default_factory=list)


def of_cells(cells: Iterable[Results]) -> Origin:
    """Of cells that each hold their machine, date and seed."""
    all_cells = list(cells)
    where = [cell["machine"] for cell in all_cells]
    versions = (listed({k: v for k, v in each.items() if k not in _PLACE}) for each in where)
    seeds = (cell["seed"] for cell in all_cells if "seed" in cell)
    return Origin(
        distinct(f"{each['cpu']}, {each['cores']} cores" for each in where),
        distinct(versions),
        distinct(cell["on"] for cell in all_cells),
        distinct(seeds) or None,
    )


_PLACE = ("cpu", "cores")


def distinct(values: Iterable[object]) -> str:
    return ", ".join(sorted({str(each) for each in values}))


def listed(of: dict[str, Any]) -> str:
    return ", ".join(f"{name} {each}" for name, each in of.items())


def means(values: list[float | None], digits: int) -> float | str:
    """Empty where a value is missing."""
    there = list(known(values))
    return round(statistics.fmean(there), digits) if there and len(there) == len(values) else ""


def known(values: list[float | None]) -> Iterator[float]:
    return (each for each in values if each is not None)

"""The machine: memory, cores, GPU, time zones and the versions of libraries."""

import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from packaging.requirements import Requirement

from tasks.doctor.findings import Case, Finding, fine, warning, wrong
from tasks.train.loop import resolved

BESIDE_MIB = 1_024  # what a night of a million events takes beside DuckDB's memory_limit
_MEMORY_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_WHY = {
    "fastapi": "newer ones break Prefect's server",
    "sqlalchemy": "newer ones break Prefect's server",
    "prefect": "nightrank is made for this one",
    "torch": "weights and kernels are tested with these",
}


def memory(case: Case) -> Iterator[Finding]:
    """compute.memory_limit fits into the machine, and into the limit of its container."""
    limit = case.settings.compute.memory_mib
    there, of_what = _memory_mib()
    key = f"{case.settings_file}: compute.memory_limit"
    said = f"compute.memory_limit is {limit:,} MiB, and {of_what} {there:,} MiB"
    if limit >= there:
        yield wrong(said, f'{key} = "{max(there // 2, 64)}MiB", or fewer')
    elif limit + BESIDE_MIB > there:
        yield warning(
            f"{said}: models need some {BESIDE_MIB:,} MiB beside it",
            f'{key} = "{max(there - BESIDE_MIB, there // 2, 64)}MiB"',
        )
    else:
        yield fine(said)


def _memory_mib() -> tuple[int, str]:
    """What there is, and what limits it."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    limits = [text for path in _MEMORY_LIMITS if (text := _text(path)).isdigit()]
    least = min((int(text) // 2**20 for text in limits), default=machine)
    if least < machine:
        return least, "the container's limit is"
    return machine, "the machine has"


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def threads(case: Case) -> Iterator[Finding]:
    """compute.threads does not exceed the cores that this process may use."""
    wanted, cores = case.settings.compute.threads, len(os.sched_getaffinity(0))
    if wanted > cores:
        yield warning(
            f"compute.threads is {wanted}, and there are {cores} cores",
            f"{case.settings_file}: compute.threads = 0 takes all there are",
        )
    else:
        yield fine(f"{wanted or cores} threads on {cores} cores")


def device(case: Case) -> Iterator[Finding]:
    """train.device is there."""
    wanted = case.settings.train.device
    if wanted == "cuda" and resolved("auto").type == "cpu":
        yield wrong(
            "train.device is cuda, and torch sees no GPU",
            f'{case.settings_file}: train.device = "auto"; or install a driver, and a torch that '
            "was built for it",
        )
    else:
        yield fine(f"train.device is {wanted}: models are trained on {resolved(wanted).type}")


def time_zones(case: Case) -> Iterator[Finding]:
    """There is a time zone database."""
    try:
        ZoneInfo("America/New_York")
    except ZoneInfoNotFoundError:
        yield wrong("there is no time zone database", "pip install tzdata")
    else:
        yield fine("there is a time zone database")


def libraries(case: Case) -> Iterator[Finding]:
    """What is installed is in the ranges that nightrank runs with."""
    n_found = 0
    for text in requires("nightrank") or []:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        n_found += 1
        yield from _library(wanted)
    yield fine(f"{n_found} libraries were looked at")


def _library(wanted: Requirement) -> Iterator[Finding]:
    fix = f"pip install --constraint constraints.txt '{wanted}'"
    try:
        there = version(wanted.name)
    except PackageNotFoundError:
        yield wrong(f"{wanted.name} is not installed", fix)
        return
    if not wanted.specifier.contains(there, prereleases=True):
        why = f": {_WHY[wanted.name]}" if wanted.name in _WHY else ""
        yield wrong(f"{wanted.name} is {there}, and must be {wanted.specifier}{why}", fix)


CHECKS = (memory, threads, device, time_zones, libraries)

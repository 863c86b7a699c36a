"""The benchmark book: every results/*.json as a table, in one Markdown file.

    python -m tests.benchmarks.book            writes BOOK.md
    python -m tests.benchmarks.book --check    says whether it is in step with the results

A figure that falls short of what it is to reach is marked NOT MET; what was not measured is said
not to be measured, and what a file does not record of its origin is said not to be recorded.
"""

import argparse
import ast
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.chapter import Chapter, Goal, Origin, Table
from tests.benchmarks.chapters import CHAPTERS
from tests.benchmarks.origins import noted

HERE = Path(__file__).parent
RESULTS = HERE / "results"
BOOK = HERE / "BOOK.md"
HEAD = """# Benchmark book

Written by `python -m tests.benchmarks.book` from `tests/benchmarks/results/*.json`; do not edit.
Research data is not part of the project: `NIGHTRANK_DATA` names the folder that holds it.
"""
# The command with what it takes beside its name, and the short form where there is one.
OPTIONS = {
    "sasrec_speed": " --peer FILE (model.py of pmixer's SASRec.pytorch)",
    "recbole_speed": " --peer PYTHON (of an environment with RecBole)",
    "whole_night": " --peer FILE (cicerone, of an environment of its own)",
}
QUICK = (
    *("baselines", "sasrec_quality", "known_truth", "propensities", "coat", "gate_power"),
    *("known_causes", "causalrec_quality", "causalrec_speed"),
)


def book(results: Path = RESULTS) -> str:
    """The whole text."""
    chapters = {name: _chapter(name, results) for name in CHAPTERS}
    lines = [HEAD, "## What falls short", "", *_short(chapters), ""]
    for name, chapter in chapters.items():
        lines += [*_told(name, chapter), ""]
    return "\n".join(lines).rstrip() + "\n"


def _chapter(name: str, results: Path) -> Chapter | None:
    file = results / f"{name}.json"
    if not file.exists():
        return None
    chapter = CHAPTERS[name](json.loads(file.read_text()))
    beside = {key: value for key, value in vars(noted(name, results)).items() if value}
    return replace(chapter, origin=replace(chapter.origin, **beside))


def _short(chapters: dict[str, Chapter | None]) -> Iterator[str]:
    missed = [
        f"- {name}: {goal.what}: {goal.value} of {goal.bound}, {goal.verdict}"
        for name, chapter in chapters.items()
        if chapter is not None
        for goal in chapter.goals
        if goal.verdict != "met"
    ]
    missed += [f"- {name}: not measured yet" for name, each in chapters.items() if each is None]
    yield from missed or ["Nothing."]


def _told(name: str, chapter: Chapter | None) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    yield _about(name)
    yield ""
    yield f"Again: `python -m tests.benchmarks.{name}`{OPTIONS.get(name, '')}"
    if name in QUICK:
        yield "(`--quick`: one seed, measured anew and told beside these figures; not written)"
    yield ""
    if chapter is None:
        yield "Not measured yet."
        return
    yield from _origin(chapter.origin)
    for table in chapter.tables:
        yield ""
        yield from markdown(table)
    if chapter.goals:
        yield ""
        yield from markdown(_of_goals(chapter.goals))


def _about(name: str) -> str:
    """The first paragraph of the benchmark's own docstring."""
    told = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or ""
    return " ".join(told.partition("\n\n")[0].split())


def _origin(origin: Origin) -> Iterator[str]:
    for name, value in vars(origin).items():
        yield f"- {name}: {value or 'not recorded'}"


def _of_goals(goals: list[Goal]) -> Table:
    rows: list[tuple[object, ...]] = [
        (
            goal.what,
            "-" if goal.value is None else round(goal.value, 4),
            f"{'<=' if goal.at_most else '>='} {goal.bound}",
            goal.verdict,
        )
        for goal in goals
    ]
    return Table(("to reach", "measured", "bound", "verdict"), rows)


def markdown(table: Table) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield _row(table.head)
    yield _row(("---",) * len(table.head))
    for row in table.rows:
        yield _row(row)


def _row(cells: tuple[object, ...]) -> str:
    told = ("" if cell is None else str(cell).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(told)} |"


def main() -> None:
    """Write, or compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        BOOK.write_text(book())
    elif not BOOK.exists() or BOOK.read_text() != book():
        raise SystemExit(
            f"{BOOK.name} is not in step with results/: run python -m tests.benchmarks.book"
        )


if __name__ == "__main__":
    main()

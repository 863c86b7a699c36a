"""What `nightrank doctor` prints."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from tasks.report.terminal import Terminal, table_of

if TYPE_CHECKING:
    # It reaches the models, and so torch; `--help` must not wait for that.
    from tasks.doctor.findings import Finding

_STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red"}


def show_findings(terminal: Terminal, findings: "Sequence[Finding]", form: str) -> int:
    """Every finding; returns the exit code: 1 if any is wrong."""
    counts = {verdict: sum(f.verdict == verdict for f in findings) for verdict in _STYLES}
    if form == "json":
        print(json.dumps({"counts": counts, "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        terminal.console.print(_table(findings))
        for each in findings:
            if each.verdict != "ok":
                terminal.say(f"{each.verdict}: {each.found}")
                terminal.say(f"  fix: {each.fix}")
        told = [f"{n} {verdict}" for verdict, n in counts.items() if n or verdict == "ok"]
        terminal.say(", ".join(told))
    return 1 if counts["wrong"] else 0


def _table(findings: "Sequence[Finding]") -> Table:
    table = table_of(("room", "check", "verdict", "found"))
    for each in findings:
        verdict = f"[{_STYLES[each.verdict]}]{each.verdict}[/]"
        table.add_row(each.room, each.check, verdict, escape(each.found))
    return table

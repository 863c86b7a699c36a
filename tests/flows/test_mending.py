"""Quarantine, replay and withdrawals by hand, and what `status` says is stale after them."""

import json
from pathlib import Path

import pytest

from flows.cli import main
from tests.scenarios.nights import Place, leave_out_what_only_reads


@pytest.fixture
def place(one_night: Place, tmp_path: Path) -> Place:
    return one_night.copy(tmp_path / "shop")


def shop(place: Place, *more: str) -> list[str]:
    paths = ["--landing", str(place.landing), "--lake", str(place.lake)]
    return [*more, "--settings", str(place.settings), *paths]


def test_reasons_of_quarantine(one_night: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quarantine", "--format", "json", *shop(one_night)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"wrong type: item_id is no text"} & {row["reason"] for row in rows}
    assert all(row["example"].rsplit(":", 1)[1].isdigit() for row in rows)


def test_replay_without_a_mended_mapping_moves_nothing(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quarantine", "--replay", *shop(place)]) == 0
    out = capsys.readouterr().out
    assert "0 of" in out
    assert "stale" not in out


def test_a_withdrawal_makes_stale_what_a_night_mends(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_what_only_reads(monkeypatch)
    path = "events/dt=2026-01-08/part-2.jsonl.gz"
    assert main(["withdraw", path, *shop(place)]) == 0
    assert f"events {path}: " in capsys.readouterr().out
    assert main(["status", *shop(place)]) == 0
    out = capsys.readouterr().out
    assert "night of 2026-01-10 is stale: 1 file(s) changed its window since" in out
    assert "nightrank run --ds 2026-01-10" in out
    assert "stale: " in next(line for line in out.splitlines() if "behaviours_daily" in line)
    assert place.run().ending in ("published", "kept")
    assert main(["status", *shop(place)]) == 0
    assert "stale" not in capsys.readouterr().out
    assert main(["withdraw", path, *shop(place)]) == 2

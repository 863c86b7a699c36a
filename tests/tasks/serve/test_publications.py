from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import StorageError
from tasks.lake.connection import connect
from tasks.lake.tables import Lake, arrow_schema
from tasks.lake.warehouse import current_folder, current_pointer, current_view
from tasks.serve.publications import Publication, note, note_once, reconcile, served
from tasks.settings import Compute
from tests.disk import on_disk

MONDAY = date(2026, 1, 5)
COMPUTE = Compute()


def decision(release: str, action: str = "publish", hours: int = 0) -> Publication:
    at = datetime(2026, 1, 6, tzinfo=UTC) + timedelta(hours=hours)
    return Publication(release, MONDAY, action, "because", "test", at, "bpr", 1, 1, "run")


def write_release(lake: Lake, release: str, item_id: str = "i1") -> None:
    row: dict[str, Any] = dict.fromkeys(arrow_schema("serve.recommendations").names)
    row |= {
        "release_id": release,
        "ds": MONDAY,
        "user_id": "u1",
        "rank": 1,
        "item_id": item_id,
        "score": 1.0,
        "model": "bpr",
        "model_version": "v",
        "source": "model",
        "reasons": {"kind": "taste", "n_users": 1, "last_at": None, "because": None},
        "rule_trace": [],
    }
    lake.append("serve.recommendations", {"ds": MONDAY, "release_id": release}, [row])


def shown(lake: Lake) -> list[Any]:
    with connect() as con:
        return con.sql(f"SELECT release_id, item_id FROM ({current_view(lake)})").fetchall()


@pytest.mark.parametrize(
    ("actions", "serving"),
    [
        ([], None),
        (["hold"], None),
        (["backfill"], None),
        (["publish"], "r0"),
        (["publish", "hold"], "r0"),
        (["publish", "backfill"], "r0"),
        (["publish", "publish"], "r1"),
        (["publish", "hold", "force"], "r2"),
        (["publish", "publish", "rollback"], "r2"),
    ],
)
def test_the_last_publish_force_or_rollback_is_served(
    actions: list[str], serving: str | None
) -> None:
    history = [decision(f"r{n}", action, n) for n, action in enumerate(actions)]
    found = served(history)
    assert (found.release_id if found else None) == serving


def test_nothing_is_shown_before_the_first_publication(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert reconcile(lake, COMPUTE) is None
    assert shown(lake) == []


def test_reconcile_shows_what_was_decided_and_never_shown(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    write_release(lake, "r0")
    note(lake, decision("r0"))
    reconcile(lake, COMPUTE)
    write_release(lake, "r1", "i2")
    assert shown(lake) == [("r0", "i1")]
    note(lake, decision("r1", hours=1))
    reconcile(lake, COMPUTE)
    assert shown(lake) == [("r1", "i2")]


def test_reconcile_touches_nothing_when_nothing_changed(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    write_release(lake, "r0")
    note(lake, decision("r0"))
    reconcile(lake, COMPUTE)
    before = on_disk(current_pointer(lake)).stat().st_mtime_ns
    reconcile(lake, COMPUTE)
    assert on_disk(current_pointer(lake)).stat().st_mtime_ns == before


def test_an_open_reader_sees_the_new_release_at_once(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for number in (0, 1):
        write_release(lake, f"r{number}")
    note(lake, decision("r0"))
    reconcile(lake, COMPUTE)
    with connect() as con:
        con.execute(f"CREATE VIEW current AS {current_view(lake)}")
        assert con.sql("SELECT release_id FROM current").fetchall() == [("r0",)]
        note(lake, decision("r1", hours=1))
        reconcile(lake, COMPUTE)
        assert con.sql("SELECT release_id FROM current").fetchall() == [("r1",)]


def test_a_release_that_is_gone_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    write_release(lake, "r0")
    note(lake, decision("r0"))
    reconcile(lake, COMPUTE)
    note(lake, decision("ghost", hours=1))
    with pytest.raises(StorageError, match="ghost"):
        reconcile(lake, COMPUTE)
    assert shown(lake) == [("r0", "i1")]


def test_a_release_is_decided_once(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first = decision("r0", "hold")
    assert note_once(lake, None, first) == first
    assert note_once(lake, None, decision("r0", "publish", 1)) == first
    assert note_once(lake, None, decision("r1", "publish", 2)).action == "publish"
    rows = lake.rows(lake.pin("serve.publications"), {"ds": MONDAY})
    assert sorted(rows.column("release_id").to_pylist()) == ["r0", "r1"]


def test_a_release_that_was_replaced_may_be_decided_again(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first, again = decision("r0"), decision("r0", "publish", 2)
    note_once(lake, None, first)
    assert note_once(lake, first, again) == again


@pytest.mark.parametrize(("slot", "serving"), [("a.parquet", 0), ("b.parquet", 1)])
def test_a_damaged_list_is_made_anew(tmp_path: Path, slot: str, serving: int) -> None:
    lake = Lake(tmp_path)
    for number in range(serving + 1):
        write_release(lake, f"r{number}")
        note(lake, decision(f"r{number}", hours=number))
        reconcile(lake, COMPUTE)
    (current_folder(lake) / slot).write_bytes(b"PAR1 and no more")
    reconcile(lake, COMPUTE)
    assert shown(lake) == [(f"r{serving}", "i1")]


def test_releases_take_the_two_slots_by_turns(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for number in range(4):
        write_release(lake, f"r{number}", f"i{number}")
        note(lake, decision(f"r{number}", hours=number))
        reconcile(lake, COMPUTE)
        assert shown(lake) == [(f"r{number}", f"i{number}")]
    assert sorted(path.name for path in current_folder(lake).iterdir()) == [
        "0.parquet", "a.parquet", "b.parquet", "served",
    ]  # fmt: skip

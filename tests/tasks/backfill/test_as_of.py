"""A history loaded in one go: as known then it is what each night saw, a late file changes now."""

from pathlib import Path

import pytest

from tasks.backfill.plan import Plan
from tests.scenarios.backfills import lists
from tests.scenarios.daily import day
from tests.scenarios.nights import leave_out_what_only_reads
from tests.tasks.backfill.conftest import History

NIGHT, LAST = 9, 16


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_what_only_reads(monkeypatch)


def made_lists(shop: History, plan: Plan, slot: int = 1) -> dict[str, list[object]]:
    made = shop.make(plan, NIGHT, slot)
    found = lists(shop.place.lake, day(NIGHT), made.release_id)
    assert len(found["serve.recommendations"]) == made.n_rows > 0
    return found


def test_a_late_file_changes_what_is_known_now_and_not_what_was_known_then(
    shop: History, tmp_path: Path
) -> None:
    shop.land(0, LAST)
    shop.ingest()
    then = shop.plan(NIGHT, NIGHT, "then")
    before = made_lists(shop, then.plan)

    nightly = History(tmp_path / "nightly")
    nightly.land(0, NIGHT)
    outcome = nightly.place.run()
    assert outcome.release_id is not None
    assert before == lists(nightly.place.lake, day(NIGHT), outcome.release_id)

    late = LAST + 1
    now = shop.plan(NIGHT, NIGHT, "now").entries[0].release_id
    shop.land(late, late)
    shop.land_late(late, NIGHT - 1)
    shop.ingest()
    again = shop.plan(NIGHT, late, "then")
    assert again.entries[0].release_id == then.entries[0].release_id
    # The late night knows the file, and its folder is built with it; then comes the earlier one.
    assert knows_late(shop, late, shop.make(again.plan, late).release_id)
    assert made_lists(shop, again.plan) == before

    changed = shop.plan(NIGHT, NIGHT, "now")
    assert changed.entries[0].release_id != now
    release = shop.make(changed.plan, NIGHT).release_id
    assert knows_late(shop, NIGHT, release)
    assert not knows_late(shop, NIGHT, str(then.entries[0].release_id))


def knows_late(shop: History, number: int, release: str) -> bool:
    """Whether a list holds an item that only the late file names."""
    rows = lists(shop.place.lake, day(number), release)["serve.recommendations"]
    assert rows
    return any("late" in str(row) for row in rows)

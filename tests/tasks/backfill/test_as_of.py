"""A history loaded in one go: as known then it is what each night saw, a late file changes now."""

from pathlib import Path

import pytest

from tasks.backfill.plan import Plan
from tests.scenarios.backfills import lists
from tests.scenarios.nights import leave_out_what_only_reads
from tests.tasks.backfill.conftest import History, day

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
    then, now = shop.plan(NIGHT, NIGHT, "then"), shop.plan(NIGHT, NIGHT, "now")
    rows_then, rows_now = made_lists(shop, then.plan), made_lists(shop, now.plan)
    assert rows_then == rows_now  # nothing came late yet

    nightly = History(tmp_path / "nightly")
    nightly.land(0, NIGHT)
    outcome = nightly.place.run()
    assert outcome.release_id is not None
    assert rows_then == lists(nightly.place.lake, day(NIGHT), outcome.release_id)

    shop.land(LAST + 1, LAST + 1)
    shop.land_late(LAST + 1, NIGHT - 1)
    shop.ingest()
    after_then, after_now = shop.plan(NIGHT, NIGHT, "then"), shop.plan(NIGHT, NIGHT, "now")
    assert after_then.entries[0].release_id == then.entries[0].release_id
    assert after_now.entries[0].release_id != now.entries[0].release_id
    assert made_lists(shop, after_then.plan) == rows_then
    late = made_lists(shop, after_now.plan)
    assert late != rows_now
    assert any("late" in str(row) for row in late["serve.recommendations"])
    assert not any("late" in str(row) for row in rows_then["serve.recommendations"])
    # once the late file is as old as the night, both know it
    assert shop.plan(LAST + 1, LAST + 1, "then").entries[0].state == "waiting"


def test_a_night_is_the_same_in_whatever_order_and_folder_it_is_made(shop: History) -> None:
    """A folder keeps what it has built, and builds anew what another night sees otherwise."""
    shop.land(0, NIGHT)
    shop.land_late(NIGHT, NIGHT - 2)
    shop.ingest()
    plan = shop.plan(NIGHT - 1, NIGHT, "then").plan
    first = made_lists(shop, plan)
    shop.make(plan, NIGHT - 1)  # in the same folder: it does not know the late file
    assert made_lists(shop, plan) == first
    assert made_lists(shop, plan, slot=2) == first

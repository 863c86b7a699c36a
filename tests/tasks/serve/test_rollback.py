"""Rolling back, holding and letting go on, on a history laid down by hand."""

import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest

from tasks.errors import UsageError
from tasks.lake.session import session
from tasks.lake.warehouse import SLOTS, current_folder, current_pointer
from tasks.mapping import Mapping
from tasks.serve.decisions import force, publish
from tasks.serve.holds import Hold, holds, standing
from tasks.serve.publications import _release_in, reconcile
from tasks.serve.rollback import resume, rollback
from tasks.settings import Paths, Settings, check
from tasks.shop import Shop
from tests.tasks.estimate.test_policies import MAPPING
from tests.tasks.serve.test_decisions import decide
from tests.tasks.serve.test_publications import MONDAY, shown, write_release

TUESDAY, WEDNESDAY = MONDAY + timedelta(days=1), MONDAY + timedelta(days=2)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Three releases of Monday lie there; a test decides about them, for the days it needs."""
    (tmp_path / "landing").mkdir()
    paths = Paths(landing=tmp_path / "landing", lake=tmp_path / "lake")
    made = Shop(Settings(paths=paths), check(Mapping, MAPPING, where="test"))
    for release in ("r0", "r1", "r2"):
        write_release(made.lake, release)
    return made


def decided(shop: Shop, *decisions: tuple[str, str, date]) -> None:
    """Note decisions (release, action, date) one after another, and show the last."""
    for hours, (release, action, ds) in enumerate(decisions):
        decide(shop, release, action, ds, hours)
    reconcile(shop.lake, shop.settings.compute)


def shown_in_turn(shop: Shop) -> None:
    """Show r0 of Monday, then r1 of Tuesday: each is in a slot now."""
    for hours, (release, ds) in enumerate((("r0", MONDAY), ("r1", TUESDAY))):
        decide(shop, release, "publish", ds, hours)
        reconcile(shop.lake, shop.settings.compute)
    assert [_release_in(shop.lake, slot) for slot in SLOTS] == ["r0", "r1"]


def hold_of(shop: Shop) -> Hold | None:
    with session(shop.lake, shop.settings.compute) as s:
        return standing(holds(s))


def test_what_was_served_before_is_served_again_with_who_and_why(shop: Shop) -> None:
    decided(shop, ("r0", "publish", MONDAY), ("r1", "publish", TUESDAY))
    done = rollback(shop, " the prices were wrong ")
    assert (done.now.release_id, done.before.release_id, done.is_old) == ("r0", "r1", False)
    assert (done.now.action, done.now.reason) == ("rollback", "the prices were wrong")
    assert done.now.who
    assert done.hold is None
    assert shown(shop.lake) == [("r0", "i1")]
    assert reconcile(shop.lake, shop.settings.compute) == done.now


def test_run_twice_it_goes_back_once(shop: Shop) -> None:
    decided(
        shop, ("r0", "publish", MONDAY), ("r1", "publish", TUESDAY), ("r2", "publish", WEDNESDAY)
    )
    first = rollback(shop, "a reason")
    again = rollback(shop, "another")
    assert again.is_old
    assert again.now == first.now
    assert shown(shop.lake) == [("r1", "i1")]
    assert rollback(shop, "further", str(MONDAY)).now.release_id == "r0"
    assert rollback(shop, "forth again", str(WEDNESDAY)).now.release_id == "r2"
    assert rollback(shop, "it is served", str(WEDNESDAY)).is_old


@pytest.mark.parametrize(
    ("history", "before"),
    [
        ([("r0", "publish"), ("r1", "hold"), ("r2", "publish")], "r0"),
        ([("r0", "publish"), ("r1", "backfill"), ("r2", "publish")], "r0"),
        ([("r0", "publish"), ("r1", "publish"), ("r1", "force")], "r0"),
        ([("r0", "publish"), ("r1", "publish"), ("r0", "rollback"), ("r2", "publish")], "r0"),
    ],
)
def test_only_what_was_served_counts_as_before(
    shop: Shop, history: list[tuple[str, str]], before: str
) -> None:
    decided(shop, *((release, action, MONDAY) for release, action in history))
    assert rollback(shop, "why").now.release_id == before


@pytest.mark.parametrize(
    ("history", "to", "release"),
    [
        ([("r0", "publish", MONDAY), ("r1", "publish", MONDAY)], str(MONDAY), "r1"),
        ([("r0", "publish", MONDAY), ("r1", "backfill", MONDAY)], str(MONDAY), "r0"),
        ([("r0", "publish", MONDAY), ("r1", "hold", MONDAY)], str(MONDAY), "r0"),
        ([("r0", "backfill", MONDAY), ("r1", "backfill", MONDAY)], str(MONDAY), "r1"),
        ([("r0", "publish", MONDAY), ("r1", "backfill", MONDAY)], "r1", "r1"),
    ],
)
def test_a_date_means_its_last_release_that_was_served_else_kept_aside(
    shop: Shop, history: list[tuple[str, str, date]], to: str, release: str
) -> None:
    decided(shop, *history, ("r2", "publish", TUESDAY))
    assert rollback(shop, "why", to).now.release_id == release
    assert shown(shop.lake) == [(release, "i1")]


@pytest.mark.parametrize(
    ("history", "to", "told"),
    [
        ([], None, "nothing is served yet"),
        ([("r0", "publish", MONDAY)], None, "nothing was served before the night of 2026-01-05"),
        ([("r0", "publish", MONDAY)], "2026-01-01", "there is no release of 2026-01-01"),
        ([("r0", "publish", MONDAY)], "monday", "'monday' is no date"),
        ([("r0", "publish", MONDAY), ("r1", "hold", TUESDAY)], str(TUESDAY), "it was held"),
        (
            [("gone", "publish", MONDAY), ("r1", "publish", TUESDAY)],
            None,
            "the list of gone is gone",
        ),
    ],
)
def test_what_cannot_be_served_again_is_refused_and_nothing_changes(
    shop: Shop, history: list[tuple[str, str, date]], to: str | None, told: str
) -> None:
    decided(shop, *history)
    before = shown(shop.lake)
    with pytest.raises(UsageError, match=told):
        rollback(shop, "why", to, hold=True)
    assert shown(shop.lake) == before
    assert hold_of(shop) is None


def test_a_list_that_lost_rows_or_a_file_is_not_served_again(shop: Shop) -> None:
    decide(shop, "r0", "publish", MONDAY, 0, n_rows=2)
    decided(shop, ("r1", "publish", TUESDAY), ("r2", "publish", WEDNESDAY))
    with pytest.raises(UsageError, match="r0 is gone, or not whole"):
        rollback(shop, "why", "r0")
    files = shop.lake.pin("serve.recommendations").files(lambda found: found["release_id"] == "r1")
    shutil.rmtree(Path(files[0]).parent)
    with pytest.raises(UsageError, match="r1 is gone"):
        rollback(shop, "why", "r1")


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_reason_must_be_given(shop: Shop, reason: str) -> None:
    decided(shop, ("r0", "publish", MONDAY), ("r1", "publish", TUESDAY))
    with pytest.raises(UsageError, match="without a reason"):
        rollback(shop, reason)
    with pytest.raises(UsageError, match="without a reason"):
        resume(shop, reason)


def test_nights_do_not_publish_while_a_person_holds_them(shop: Shop) -> None:
    decided(shop, ("r0", "publish", MONDAY), ("r1", "publish", TUESDAY))
    assert rollback(shop, "bad prices", hold=True).hold == hold_of(shop) is not None
    decision, _ = publish(shop, MONDAY, "r2", "bpr", "run")
    assert decision.action == "hold"
    assert "holds publishing back since" in decision.reason
    assert "bad prices" in decision.reason
    with pytest.raises(UsageError, match="bad prices"):
        force(shop, "why")
    assert publish(shop, MONDAY, "r2", "bpr", "run")[0] == decision
    assert shown(shop.lake) == [("r0", "i1")]
    assert resume(shop, "mended").reason == "bad prices"
    assert hold_of(shop) is None
    assert publish(shop, MONDAY, "r2", "bpr", "run")[0].action == "publish"
    assert shown(shop.lake) == [("r2", "i1")]
    with pytest.raises(UsageError, match="nobody holds"):
        resume(shop, "again")


def test_what_the_gate_held_stays_held_when_publishing_goes_on(shop: Shop) -> None:
    decided(shop, ("r0", "publish", MONDAY), ("r1", "publish", TUESDAY))
    rollback(shop, "bad prices", hold=True)
    assert publish(shop, MONDAY, "empty", "bpr", "run")[0].action == "hold"
    resume(shop, "mended")
    again, _ = publish(shop, MONDAY, "empty", "bpr", "run")
    assert (again.action, again.reason) == ("hold", "the list of 2026-01-05 is empty")
    assert publish(shop, MONDAY, "empty", "bpr", "run")[0] == again


def test_what_is_served_can_be_held_as_it_is(shop: Shop) -> None:
    decided(shop, ("r0", "publish", MONDAY))
    done = rollback(shop, "a sale", str(MONDAY), hold=True)
    assert done.is_old
    assert done.hold == hold_of(shop) is not None
    assert rollback(shop, "again", str(MONDAY), hold=True).hold == done.hold


def test_a_night_that_was_rolled_back_is_not_published_again_by_running_it(shop: Shop) -> None:
    decided(shop, ("r0", "publish", MONDAY), ("r1", "publish", MONDAY))
    rollback(shop, "why")
    assert publish(shop, MONDAY, "r1", "bpr", "run")[0].action == "publish"  # as it was decided
    assert shown(shop.lake) == [("r0", "i1")]
    assert publish(shop, TUESDAY, "r2", "bpr", "run")[0].action == "publish"
    assert shown(shop.lake) == [("r2", "i1")]


def test_it_goes_back_from_a_release_that_is_lost(shop: Shop) -> None:
    shown_in_turn(shop)
    files = shop.lake.pin("serve.recommendations").files(lambda found: found["release_id"] == "r1")
    shutil.rmtree(Path(files[0]).parent)
    (current_folder(shop.lake) / SLOTS[1]).write_bytes(b"PAR1 and no more")
    rollback(shop, "why")
    assert shown(shop.lake) == [("r0", "i1")]  # once: it was in a slot already


def test_a_decision_that_was_never_shown_is_rolled_back(shop: Shop) -> None:
    """A night was killed between deciding and showing; what readers see stays where it lies."""
    decided(shop, ("r0", "publish", MONDAY))
    decide(shop, "r1", "publish", TUESDAY, 1)
    rollback(shop, "why")
    assert shown(shop.lake) == [("r0", "i1")]
    assert current_pointer(shop.lake).read_text() == "r0"


def test_a_list_that_was_written_again_since_is_shown_as_it_is_now(shop: Shop) -> None:
    """Erasure may rewrite a release: the slot that still holds the old list is not shown."""
    shown_in_turn(shop)
    shop.lake.replace(
        shop.lake.pin("serve.recommendations"),
        {"ds": MONDAY, "release_id": "r0"},
        shop.lake.schema("serve.recommendations").empty_table(),
    )
    write_release(shop.lake, "r0", "i9")
    rollback(shop, "why")
    assert shown(shop.lake) == [("r0", "i9")]

"""Forcing a held release, on a history laid down by hand."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tasks.errors import UsageError
from tasks.mapping import Mapping
from tasks.serve.decisions import force
from tasks.serve.publications import Publication, note, reconcile
from tasks.settings import Paths, Settings, check
from tasks.shop import Shop
from tests.tasks.estimate.test_policies import MAPPING
from tests.tasks.serve.test_publications import MONDAY, shown, write_release

TUESDAY = MONDAY + timedelta(days=1)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    (tmp_path / "landing").mkdir()
    paths = Paths(landing=tmp_path / "landing", lake=tmp_path / "lake")
    return Shop(Settings(paths=paths), check(Mapping, MAPPING, where="test"))


def decide(shop: Shop, release: str, action: str, ds: date, hours: int, n_rows: int = 1) -> None:
    at = datetime(2026, 1, 6, tzinfo=UTC) + timedelta(hours=hours)
    made = Publication(release, ds, action, "because", "test", at, "bpr", n_rows, n_rows, "run")
    note(shop.lake, made)


def test_the_newest_held_release_is_served_with_who_and_why(shop: Shop) -> None:
    write_release(shop.lake, "r0")
    decide(shop, "r0", "hold", MONDAY, 0)
    forced = force(shop, " the range was cut ")
    assert (forced.action, forced.reason, forced.release_id) == ("force", "the range was cut", "r0")
    assert forced.who
    assert shown(shop.lake) == [("r0", "i1")]


def test_a_date_names_the_night(shop: Shop) -> None:
    write_release(shop.lake, "r0")
    decide(shop, "r0", "hold", MONDAY, 0)
    decide(shop, "r1", "hold", TUESDAY, 1)
    assert force(shop, "why", MONDAY).release_id == "r0"


def test_what_is_newer_stays_served(shop: Shop) -> None:
    for release in ("r0", "r1"):
        write_release(shop.lake, release)
    decide(shop, "r0", "hold", MONDAY, 0)
    decide(shop, "r1", "publish", TUESDAY, 1)
    with pytest.raises(UsageError, match="newer than 2026-01-05"):
        force(shop, "why", MONDAY)


def test_an_empty_list_is_never_forced(shop: Shop) -> None:
    decide(shop, "r0", "hold", MONDAY, 0, n_rows=0)
    with pytest.raises(UsageError, match="is empty"):
        force(shop, "why")


def test_nothing_held_is_told(shop: Shop) -> None:
    decide(shop, "r0", "publish", MONDAY, 0)
    with pytest.raises(UsageError, match="no night is held"):
        force(shop, "why")


def test_a_release_that_is_served_by_force_is_not_forced_twice(shop: Shop) -> None:
    write_release(shop.lake, "r0")
    decide(shop, "r0", "hold", MONDAY, 0)
    first = force(shop, "the range was cut")
    assert force(shop, "another reason") == first


def test_a_forced_release_that_another_of_its_date_replaced_is_not_said_to_be_served(
    shop: Shop,
) -> None:
    """Its data were mended after it was forced, and the night's second release was served."""
    decide(shop, "r0", "hold", MONDAY, 0)
    decide(shop, "r0", "force", MONDAY, 1)
    decide(shop, "r1", "publish", MONDAY, 2)
    with pytest.raises(UsageError, match="no night is held"):
        force(shop, "why")


def test_a_later_release_of_the_date_that_is_served_may_be_forced(shop: Shop) -> None:
    for release in ("r0", "r1"):
        write_release(shop.lake, release)
    decide(shop, "r0", "publish", MONDAY, 0)
    decide(shop, "r1", "hold", MONDAY, 1)
    assert force(shop, "why").release_id == "r1"


def test_a_forced_release_that_was_rolled_back_is_not_held(shop: Shop) -> None:
    decide(shop, "r0", "publish", MONDAY, 0)
    decide(shop, "r1", "force", TUESDAY, 1)
    decide(shop, "r0", "rollback", MONDAY, 2)
    with pytest.raises(UsageError, match="no night is held"):
        force(shop, "why")


def test_a_reason_must_be_given(shop: Shop) -> None:
    decide(shop, "r0", "hold", MONDAY, 0)
    with pytest.raises(UsageError, match="without a reason"):
        force(shop, "  ")


def test_a_release_whose_list_is_gone_is_not_forced_and_nothing_is_decided(shop: Shop) -> None:
    """Were it served, no command could show it, and every night would stop on it."""
    decide(shop, "r0", "hold", MONDAY, 0)
    with pytest.raises(UsageError, match="is gone"):
        force(shop, "why")
    assert reconcile(shop.lake, shop.settings.compute) is None


def test_what_is_forced_is_served_though_the_clock_was_set_back(shop: Shop) -> None:
    """The nights before were decided by a clock that ran years ahead."""
    for release in ("r0", "r1"):
        write_release(shop.lake, release)
    ahead = 24 * 365 * 100
    decide(shop, "r0", "publish", MONDAY, ahead)
    decide(shop, "r1", "hold", TUESDAY, ahead + 1)
    force(shop, "why")
    assert shown(shop.lake) == [("r1", "i1")]

"""A night that fell silent for so long that another may have begun: it stops, and says so."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tasks import steps
from tasks.errors import LeaseError
from tasks.lake import leases
from tasks.lake.tables import Lake
from tasks.night import Night, begin, close, leave_dates
from tasks.progress import Nobody, watched_by
from tasks.serve.decisions import Decision
from tasks.shop import open_shop
from tests.scenarios.nights import Place, day, leave_out_what_only_reads

NAME = f"night {day(6)}"


def lose(place: Place) -> None:
    """Take the lease away from the run that holds the seventh day, and wait until it knows."""
    lake = Lake(place.lake)
    leases._without(lake, NAME, lambda _: True)
    (renewal,) = [each for (*_, name, _), each in leases._renewals.items() if name == NAME]
    renewal.thread.join(30)
    assert not renewal.thread.is_alive()


class Thief(Nobody):
    """Takes the lease away when a stage begins; keeps what is said."""

    def __init__(self, place: Place, stage: str) -> None:
        self.place, self.stage = place, stage
        self.began_after: list[str] = []
        self.lines: list[str] = []
        self.has_lost = False

    def began(self, stage: str) -> None:
        if self.has_lost:
            self.began_after.append(stage)
        if stage == self.stage:
            lose(self.place)
            self.has_lost = True

    def said(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_what_only_reads(monkeypatch)
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.2)


def test_a_night_whose_lease_was_lost_stops_before_its_next_stage(place: Place) -> None:
    thief = Thief(place, "build_features")
    with watched_by(thief), pytest.raises(LeaseError, match="another run took it"):
        place.run()
    assert thief.began_after == []
    (warned,) = thief.lines
    assert warned.startswith(f"warning: the lease of the night of {day(6)} was lost: another run")
    place.refresh()
    assert place.ask(f"SELECT * FROM serve.publications WHERE ds = '{day(6)}'") == []
    ((outcome, reason),) = place.ask(
        f"SELECT outcome, reason FROM ops.nights WHERE ds = '{day(6)}'"
    )
    assert outcome == "failed"
    assert "was lost: another run took it" in reason
    assert leases.holders(Lake(place.lake)) == []


@pytest.fixture
def night(place: Place) -> Night:
    """A night of the seventh day that holds its date and is about to publish."""
    shop = open_shop(place.settings, None, place.landing, place.lake)
    return replace(begin(shop, day(6)), release="a-release", model="bpr")


def test_one_that_lost_it_while_it_waited_to_publish_decides_nothing(
    night: Night, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    leased = leases.leased

    def late(*arguments: Any) -> Any:
        lose(place)
        return leased(*arguments)

    monkeypatch.setattr("tasks.serve.publications.leased", late)
    before = Lake(place.lake).pin("serve.publications").version
    with pytest.raises(LeaseError, match="another run took it"):
        steps.publish(night)
    assert Lake(place.lake).pin("serve.publications").version == before
    assert leases.holders(Lake(place.lake)) == []
    leave_dates(night)


def test_one_that_lost_it_after_it_published_ends_as_it_did_and_says_so(
    night: Night, place: Place
) -> None:
    lose(place)
    published = replace(night, decision=Decision("publish", "it is well"))
    outcome = close(published)
    assert outcome.ending == "published"
    assert "it is well; then the lease of the date was lost: another run took it" in outcome.reason
    (row,) = Lake(place.lake).rows(Lake(place.lake).pin("ops.nights"), {"ds": day(6)}).to_pylist()
    assert (row["outcome"], row["reason"]) == ("published", outcome.reason)
    assert row["ended_at"] <= datetime.now(UTC)

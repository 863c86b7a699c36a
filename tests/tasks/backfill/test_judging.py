"""The last pass, over releases laid down by hand: compared, swapped in once, or kept aside."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from tasks.backfill import ledger
from tasks.backfill.judging import judge
from tasks.backfill.ledger import Entry
from tasks.backfill.plan import Plan
from tasks.lake.session import session
from tasks.lake.tables import Partition, arrow_schema
from tasks.serve.publications import Publication, history, is_of_its_date, note, served
from tests.scenarios.daily import day
from tests.tasks.backfill.conftest import History
from tests.tasks.backfill.test_plan import NOW

NIGHT = day(4)


@pytest.fixture
def shop(loaded: History) -> History:
    return loaded


def lay_down(shop: History, release: str, ds: date, n_users: int, item: str = "i") -> None:
    """A release of two items for each user."""
    nothing: dict[str, Any] = dict.fromkeys(arrow_schema("serve.recommendations").names)
    told = {"model": "bpr", "model_version": "v", "source": "model", "rule_trace": [], "score": 1.0}
    reasons = {"kind": "taste", "n_users": 1, "last_at": None, "because": None}
    rows = [
        nothing
        | told
        | {"release_id": release, "ds": ds, "user_id": f"u{n}", "rank": rank, "reasons": reasons}
        | {"item_id": f"{item if rank == 2 else 'i'}{rank}"}
        for n in range(n_users)
        for rank in (1, 2)
    ]
    shop.shop.lake.put("serve.recommendations", {"ds": ds, "release_id": release}, rows)


def decide(shop: History, release: str, ds: date, action: str = "publish") -> None:
    lay_down(shop, release, ds, 10)
    note(shop.shop.lake, Publication(release, ds, action, "x", "nightly", NOW, "bpr", 10, 20, "r"))


def done(shop: History, n_users: int, **request: Any) -> tuple[Plan, Entry]:
    """A plan whose one night is done, with lists of so many users."""
    planned = shop.plan(4, 4, **request)
    (entry,) = planned.entries
    assert entry.release_id is not None
    made = replace(entry, state="done", model="bpr", n_rows=2 * n_users, slot=1, run_id="made")
    ledger.write(shop.shop.lake, [made])
    lay_down(shop, entry.release_id, NIGHT, n_users, "other")
    return planned.plan, made


def decisions(shop: History) -> list[Publication]:
    with session(shop.shop.lake, shop.shop.settings.compute) as s:
        return history(s)


def test_without_anything_before_it_is_swapped_in(shop: History) -> None:
    plan, entry = done(shop, 3)
    known = judge(shop.shop, plan, entry)
    assert known["outcome"] == "swapped in"
    (decision,) = decisions(shop)
    assert (decision.action, decision.release_id) == ("backfill", entry.release_id)
    assert is_of_its_date(decision)
    assert served(decisions(shop)) is None


def test_beside_the_release_of_its_date(shop: History) -> None:
    decide(shop, "newer", day(5))
    decide(shop, "own", NIGHT)
    decide(shop, "older", day(3))
    serving = served(decisions(shop))
    plan, entry = done(shop, 9)
    for _ in range(2):  # killed after it had decided, it is judged again and decides nothing more
        known = judge(shop.shop, plan, entry)
        assert (known["outcome"], known["compared_with"]) == ("swapped in", "own")
        assert (known["overlap"], known["n_users_before"], known["n_items_before"]) == (0.5, 10, 2)
    found = [each for each in decisions(shop) if each.action == "backfill"]
    assert [each.release_id for each in found] == [entry.release_id]
    assert served(decisions(shop)) == serving
    pinned = shop.shop.lake.pin("serve.verdicts")
    where: Partition = {"ds": NIGHT, "release_id": str(entry.release_id)}
    rules = shop.shop.lake.rows(pinned, where).to_pylist()
    assert {row["rule"]: row["verdict"] for row in rules}["users"] == "pass"


@pytest.mark.parametrize(
    ("n_users", "request_", "why"),
    [(6, {}, "more than 30% went missing"), (10, {"keeps_aside": True}, "keeps its releases")],
)
def test_what_the_gate_holds_is_kept_aside(
    shop: History,
    n_users: int,
    request_: dict[str, Any],
    why: str,
) -> None:
    decide(shop, "older", day(3))
    before = decisions(shop)
    known = judge(shop.shop, *done(shop, n_users, **request_))
    assert (known["outcome"], known["compared_with"]) == ("kept aside", "older")
    assert why in known["verdict"]
    assert decisions(shop) == before

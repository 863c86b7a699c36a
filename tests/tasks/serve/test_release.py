"""A release is listed by ranges of users: as many as there is memory for, the same rows always."""

from pathlib import Path

import pytest

from tasks.lake.session import session
from tasks.serve import release
from tasks.shop import Parameters, Shop, open_shop
from tests.scenarios.nights import Place, day, rows

LISTS = ("serve.recommendations", "serve.shortfalls")


@pytest.fixture
def shop(one_night: Place, tmp_path: Path) -> Shop:
    place = one_night.copy(tmp_path / "shop")
    return open_shop(place.settings, None, place.landing, place.lake)


def ranges(shop: Shop, n_users: int) -> list[Parameters]:
    with session(shop.lake, shop.settings.compute) as s:
        s.read("serve.active_users", upto=day(5))
        return release.user_ranges(s, n_users)


def test_ranges_hold_every_user_once_and_in_order(shop: Shop) -> None:
    with session(shop.lake, shop.settings.compute) as s:
        s.read("serve.active_users")
        users = [row[0] for row in s.rows("SELECT user_id FROM serve.active_users ORDER BY 1")]
    found = ranges(shop, 7)
    assert [each["first_user"] for each in found] == users[::7]
    assert [each["last_user"] for each in found] == [*users[6::7], *users[-1:]][: len(found)]
    assert ranges(shop, 10**6) == [{"first_user": users[0], "last_user": users[-1]}]


def test_a_release_is_the_same_in_one_range_and_in_many(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: rows(shop.lake.root, name) for name in LISTS}
    (made,) = {row[0] for row in _releases(shop)}
    monkeypatch.setattr(release, "ROWS_PER_MIB", 1)  # 47 users at once
    written = release.build_release(shop, day(5), made, shop.settings.publish.model)
    assert written[0].rows == len(before["serve.recommendations"])
    assert {name: rows(shop.lake.root, name) for name in LISTS} == before


def test_a_release_without_users_is_empty(shop: Shop) -> None:
    nobody = shop.lake.schema("serve.active_users").empty_table()
    shop.lake.rewrite("serve.active_users", {"ds": day(5)}, lambda _: nobody)
    written = release.build_release(shop, day(5), "r", shop.settings.publish.model)
    assert [each.rows for each in written] == [0, 0]


def _releases(shop: Shop) -> list[tuple[str]]:
    with session(shop.lake, shop.settings.compute) as s:
        s.read("serve.recommendations")
        return s.rows("SELECT DISTINCT release_id FROM serve.recommendations")

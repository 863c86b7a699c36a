"""Lists laid down by hand, and readers in processes of their own who poll what is served."""

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.lake.connection import connect
from tasks.lake.session import session
from tasks.lake.tables import Lake, Partition, arrow_schema
from tasks.lake.warehouse import warehouse_path
from tasks.mapping import Mapping
from tasks.night import refresh
from tasks.serve.decisions import publish
from tasks.serve.publications import Publication, history
from tasks.settings import Gate, Paths, Settings, check
from tasks.shop import Shop
from tests.scenarios.nights import day, event, start
from tests.tasks.estimate.test_policies import MAPPING

K = 10
LOOSE = Gate(max_coverage_loss=1.0, max_top_item_rise=1.0)
SEEN = (
    "SELECT release_id, min(ds), max(ds), count(*), count(DISTINCT user_id) "
    "FROM serve.current GROUP BY release_id"
)


def shop_at(root: Path) -> Shop:
    """A shop without logs: its lists are laid down by hand."""
    paths = Paths(landing=root / "landing", lake=root / "lake")
    paths.landing.mkdir(parents=True, exist_ok=True)
    return Shop(Settings(paths=paths, gate=LOOSE), check(Mapping, MAPPING, where="test"))


def release_of(number: int) -> str:
    """The release of a day, the first is 0."""
    return f"{day(number)}-hand"


def served_shop(root: Path, n_days: int) -> Shop:
    """A shop that published the lists of its first days in turn."""
    shop = shop_at(root)
    for number in range(n_days):
        write_list(shop.lake, number)
        assert publish_day(shop, number) == "publish"
    return shop


def n_users(number: int) -> int:
    """Users of its list: more from day to day, so that lists are told apart."""
    return 3000 + 40 * number


def whole(number: int) -> list[Any]:
    """What a reader sees of a whole night."""
    ds = str(day(number))
    return [release_of(number), ds, ds, K * n_users(number), n_users(number)]


def write_list(lake: Lake, number: int) -> None:
    """The list of a day: K ranks for every user."""
    ds, release = day(number), release_of(number)
    schema = arrow_schema("serve.recommendations")
    with connect() as con:
        rows = con.sql(
            f"""SELECT '{release}' AS release_id, DATE '{ds}' AS ds,
                'u' || lpad(u::VARCHAR, 6, '0') AS user_id, r::INTEGER AS rank,
                'i' || ((u + r) % 997)::VARCHAR AS item_id, 1.0 / r AS score, 'bpr' AS model,
                'v' AS model_version, 'model' AS source,
                {{kind: 'taste', n_users: 1, last_at: NULL, because: NULL}} AS reasons,
                ['in stock'] AS rule_trace, NULL::DOUBLE AS p_shown
            FROM range({n_users(number)}) AS users (u), range(1, {K + 1}) AS ranks (r)"""
        ).to_arrow_table()
    where: Partition = {"ds": ds, "release_id": release}
    made = rows.select(schema.names).cast(schema)
    lake.rewrite("serve.recommendations", where, lambda _: made)


def publish_day(shop: Shop, number: int) -> str:
    """Publish the list of a day as a night does; what was decided."""
    release = release_of(number)
    return publish(shop, day(number), release, "bpr", f"run of {day(number)}")[0].action


def decisions(shop: Shop) -> list[Publication]:
    """Every decision, oldest first."""
    with session(shop.lake, shop.settings.compute) as s:
        return history(s)


def read_over_one_connection(views: Path, kept: Path, is_over: Any, pause: float) -> None:
    """Poll over one connection, opened before; each new answer is a line of `kept`."""
    seen: set[str] = set()
    with connect(views, read_only=True) as con:
        is_last = False
        while not is_last:
            is_last = is_over.is_set()
            _keep(json.dumps(con.sql(SEEN).fetchall(), default=str), seen, kept)
            time.sleep(random.uniform(0, pause))


def read_over_new_connections(views: Path, kept: Path, is_over: Any, pause: float) -> None:
    """Poll, and connect anew each time."""
    seen: set[str] = set()
    is_last = False
    while not is_last:
        is_last = is_over.is_set()
        with connect(views, read_only=True) as con:
            _keep(json.dumps(con.sql(SEEN).fetchall(), default=str), seen, kept)
        time.sleep(random.uniform(0, pause))


def _keep(answer: str, seen: set[str], kept: Path) -> None:
    if answer not in seen:
        seen.add(answer)
        kept.write_text("\n".join(sorted(seen)))


@dataclass
class Readers:
    """What was seen while readers polled: each answer once, for each kind of reader."""

    seen: dict[str, list[Any]] = field(default_factory=dict)

    def saw_only(self, *nights: list[Any]) -> bool:
        """Whether every answer of every reader was one whole night."""
        allowed = [[night] for night in nights]
        return all(answer in allowed for answers in self.seen.values() for answer in answers)

    def saw(self, night: list[Any]) -> bool:
        """Whether every reader saw a night."""
        return all([night] in answers for answers in self.seen.values())


@contextmanager
def polled(shop: Shop, root: Path, pause: float = 0.2) -> Iterator[Readers]:
    """Let readers in processes of their own poll `serve.current` all the while.

    They pause up to so many seconds: without pauses two readers take a core from what they watch.
    """
    refresh(shop)
    readers, is_over = Readers(), event()
    polls = {"open": read_over_one_connection, "new": read_over_new_connections}
    kept = {name: root / f"seen-{name}" for name in polls}
    views = warehouse_path(shop.lake)
    started = [start(poll, views, kept[name], is_over, pause) for name, poll in polls.items()]
    try:
        until = time.monotonic() + 60
        while not all(path.exists() for path in kept.values()):
            assert time.monotonic() < until, "no reader came so far"
            time.sleep(0.02)
        yield readers
    finally:
        is_over.set()
        for process in started:
            process.join()
    assert [process.exitcode for process in started] == [0, 0]
    for name, path in kept.items():
        readers.seen[name] = [json.loads(line) for line in path.read_text().splitlines()]

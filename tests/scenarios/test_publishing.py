"""Publishing and rolling back at once, and a rollback that is killed: readers see whole nights."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tasks.lake.leases import holders
from tasks.lake.tables import Lake
from tasks.lake.warehouse import current_pointer
from tasks.serve.publications import SERVING, Publication
from tasks.serve.rollback import rollback
from tests.disk import on_disk
from tests.scenarios.nights import in_process, start
from tests.scenarios.served import (
    decisions,
    polled,
    publish_day,
    release_of,
    served_shop,
    shop_at,
    whole,
    write_list,
)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop that served three days. Copy it; do not change it."""
    root = tmp_path_factory.mktemp("three")
    served_shop(root, 3)
    return root


@pytest.fixture
def root(three: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "shop"))


def publish_in_turn(root: Path, first: int, last: int, seed: int) -> None:
    """Publish day after day, with pauses."""
    chance = random.Random(seed)
    for number in range(first, last + 1):
        assert publish_day(shop_at(root), number) in ("publish", "backfill")
        time.sleep(chance.uniform(0, 0.3))


def roll_about(root: Path, n_times: int, seed: int) -> None:
    """Roll back or forth to a day that was served, and again, with pauses."""
    chance = random.Random(seed)
    for _ in range(n_times):
        known = sorted({each.release_id for each in decisions(shop_at(root))})
        rollback(shop_at(root), "a test", chance.choice(known))
        time.sleep(chance.uniform(0, 0.3))


def moves_back_by_rollback_only(history: list[Publication]) -> bool:
    """Whether no night took the place of a newer one."""
    serving: Publication | None = None
    for each in history:
        if each.action in SERVING:
            if serving is not None and each.action == "publish" and each.ds < serving.ds:
                return False
            serving = each
    return True


def at_once(root: Path, n_days: int, n_rollbacks: int, seed: int, pause: float = 0.2) -> None:
    """Two processes publish and one rolls about, while readers poll."""
    shop = shop_at(root)
    for number in range(3, n_days):
        write_list(shop.lake, number)
    half = (3 + n_days) // 2
    with polled(shop, root, pause) as readers:
        workers = [
            start(publish_in_turn, root, 3, half, seed),
            start(publish_in_turn, root, half + 1, n_days - 1, seed + 1),
            start(roll_about, root, n_rollbacks, seed + 2),
        ]
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert readers.saw_only(*map(whole, range(n_days))), readers.seen
    assert readers.saw(whole(2))
    assert all(len(answers) > 2 for answers in readers.seen.values())
    history = decisions(shop)
    assert len({each.decided_at for each in history}) == len(history)
    assert moves_back_by_rollback_only(history)
    last = [each.release_id for each in history if each.action in SERVING][-1]
    assert current_pointer(shop.lake).read_text() == last
    assert holders(shop.lake) == []


def test_a_rollback_during_a_publish_is_seen_whole(root: Path) -> None:
    at_once(root, 5, 2, seed=1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 1100, 100))
def test_many_rollbacks_during_many_publishes_are_seen_whole(root: Path, seed: int) -> None:
    at_once(root, 15, 12, seed, pause=0.04)


def roll_back_and_die(root: Path, moment: int) -> None:
    """Roll back and hold, and be killed before (odd) or after (even) the moment-th half of a step:
    a table that is written, or a file that is put in its place."""
    halves = 0

    def half() -> None:
        nonlocal halves
        halves += 1
        if halves == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        def work(*arguments: Any) -> Any:
            half()
            done = step(*arguments)
            half()
            return done

        return work

    Lake.replace = counted(Lake.replace)  # type: ignore[method-assign]
    Path.replace = counted(Path.replace)  # type: ignore[method-assign]
    rollback(shop_at(root), "a test", release_of(0), hold=True)
    os._exit(7)  # it had fewer steps


def killed_converges(root: Path, moment: int, pause: float = 0.2) -> bool:
    """Kill a rollback at a moment and run it again; False where it has no such moment."""
    shop = shop_at(root)
    with polled(shop, root, pause) as readers:
        code = in_process(roll_back_and_die, root, moment)
        done = rollback(shop, "a test", release_of(0), hold=True)
    assert readers.saw_only(whole(2), whole(0)), (moment, readers.seen)
    assert (done.now.release_id, done.now.action) == (release_of(0), "rollback")
    assert done.hold is not None
    assert current_pointer(shop.lake).read_text() == release_of(0)
    assert [each.action for each in decisions(shop)] == ["publish"] * 3 + ["rollback"]
    assert shop.lake.rows(shop.lake.pin("serve.holds"), {}).num_rows == 1
    assert holders(shop.lake) == []
    assert code in (7, -signal.SIGKILL)
    return code != 7


@pytest.mark.parametrize("moment", [4, 6, 8], ids=["ready", "held", "decided"])
def test_a_killed_rollback_converges(root: Path, moment: int) -> None:
    assert killed_converges(root, moment)


@pytest.mark.soak
def test_a_rollback_killed_at_any_step_converges(three: Path, tmp_path: Path) -> None:
    moment = 1
    while killed_converges(Path(shutil.copytree(three, tmp_path / str(moment))), moment, 0.04):
        moment += 1
    assert moment > 12


def test_readers_see_a_rollback_within_a_second_of_the_decision(root: Path) -> None:
    """The list is made ready before; a busy machine may take longer now and then."""
    shop, seconds = shop_at(root), []
    for number in (0, 1, 2):
        now = rollback(shop, "a test", release_of(number)).now
        shown_at = datetime.fromtimestamp(on_disk(current_pointer(shop.lake)).stat().st_ctime, UTC)
        seconds.append((shown_at - now.decided_at).total_seconds())
    assert min(seconds) < 1, seconds

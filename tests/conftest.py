import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    # What nights need takes ten seconds to import, which the process that only hands out the tests
    # to others is spared: fixtures import it.
    from tests.scenarios.nights import Place
    from tests.stores import Server

# The longest first, so that no worker is left with one at the end.
LONG = ("tests/flows/test_up.py", "tests/flows", "tests/scenarios")
# By one worker, for they share what is dear: servers, a shop whose truth is known.
TOGETHER = (
    (
        "tests/flows/test_backfill.py",
        "tests/flows/test_nightly.py",
        "tests/tasks/doctor/test_orchestration.py",
    ),
    ("tests/scenarios/test_known_propensities.py", "tests/scenarios/test_known_truth.py"),
    (
        "tests/scenarios/test_store.py",
        "tests/tasks/test_places.py",
        "tests/tasks/lake/test_in_store.py",
    ),
)


# A machine that is busy is no failure.
settings.register_profile("nightrank", deadline=None)
settings.load_profile("nightrank")


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: some tests wait for a server, a kill or a pause."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Files by one worker each, as loadfile has it, and some of them together."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    def scope(nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return next((files[0] for files in TOGETHER if file in files), file)

    scheduler = LoadFileScheduling(config, log)
    scheduler._split_scope = scope
    return scheduler


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        found = (n for n, start in enumerate(LONG) if item.nodeid.startswith(start))
        return next(found, len(LONG))

    items.sort(key=place)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all workers of a run have in common."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def once(folder: Path, make: Callable[[], object]) -> None:
    """Make what belongs into the folder, unless another worker has."""
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            make()


@pytest.fixture(scope="session")
def sample(shared: Path) -> Path:
    """A small sample shop of seven days. Copy it; do not change it."""
    from tasks.sample import ShopSettings, write_sample

    root = shared / "sample"
    once(root, lambda: write_sample(ShopSettings(n_days=7, n_users=120, n_items=60), root))
    return root


@pytest.fixture(scope="session")
def one_night(sample: Path, shared: Path) -> "Place":
    """A shop that has run one night, of its sixth day. Copy it; do not change it."""
    from tests.scenarios.nights import Place, found

    place = Place(shared / "one")

    def run() -> None:
        assert found(place, 0, 6, sample).run().ending == "published"

    once(place.root, run)
    return place


@pytest.fixture
def place(one_night: "Place", sample: Path, tmp_path: Path) -> "Place":
    """A shop that served its sixth day, and whose seventh has landed."""
    from tests.scenarios.nights import with_seventh_day

    return with_seventh_day(one_night, sample, tmp_path / "shop")


@pytest.fixture(scope="session")
def two_nights(one_night: "Place", sample: Path, shared: Path) -> "Place":
    """The same shop after its second night, never killed. Copy it; do not change it."""
    from tests.scenarios.nights import Place, run_apart, with_seventh_day

    root = shared / "two"

    def run() -> None:
        assert run_apart(with_seventh_day(one_night, sample, root), is_checked=False) == 0

    once(root, run)
    return Place(root)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Server"]:
    """A real object store with one bucket. Tests put below prefixes of their own."""
    from tests.stores import running

    with running(tmp_path_factory.mktemp("store") / "files") as server:
        yield server


@pytest.fixture
def store(server: "Server", monkeypatch: pytest.MonkeyPatch) -> "Server":
    """The same, with its owner's keys in the environment."""
    from tests.stores import OWNER

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OWNER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OWNER[1])
    return server


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Prefect server; tests have it one after another, and share its runs."""
    from tests.flows.servers import prefect_server

    with prefect_server(tmp_path_factory.mktemp("prefect")) as api:
        yield api

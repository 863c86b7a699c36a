"""A sound shop gives no warning, whatever its mapping; nothing that is written stays."""

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from flows.cli import main
from tasks.doctor.examine import ROOMS, examine, opened
from tasks.doctor.findings import Case, Finding
from tasks.ingest.pseudonyms import KEY_VARIABLE
from tasks.lake.session import session
from tasks.operate.plan import SHIPPED_PLAN
from tasks.serve.publications import Publication, note, served, time_after
from tasks.serve.publications import history as read_history
from tasks.settings import Compute
from tests.scenarios.nights import Place, with_seventh_day
from tests.tasks.doctor.plants import examined, gone_pid, sick

LANDED: dict[str, dict[str, str]] = {
    "movielens_100k": {
        "ml-100k/u.data": "7\t1029\t4\t1260759179\n1\t31\t2\t1260759144\n",
        "ml-100k/u.item": "31|Dangerous Minds (1995)|01-Jan-1995||http://x|" + "|".join("0" * 19),
        "ml-100k/u.user": "7|24|M|technician|85711\n1|53|F|other|94043\n",
    },
    "movielens_1m": {
        "ml-1m/ratings.dat": "7::1029::4::1260759179\n1::31::2.5::1260759144\n",
        "ml-1m/movies.dat": '31::Minds: "A" (1995)::Comedy|Drama\n',
    },
    "movielens_latest": {
        "ml-32m/ratings.csv": "userId,movieId,rating,timestamp\r\n7,1029,4.0,1260759179\r\n",
        "ml-32m/movies.csv": 'movieId,title,genres\r\n31,"Minds, ""A"" (1995)",Drama\r\n',
    },
    "retailrocket": {
        "retailrocket/events.csv": "timestamp,visitorid,event,itemid,transactionid\n"
        "1433221332117,257597,view,355908,\n1433221999827,111016,transaction,318965,13\n",
    },
    "taobao": {
        "UserBehavior.csv": "1,2268318,2520377,pv,1511544070\n1,2333346,2520771,buy,1511561733\n",
    },
}


def files_and_folders(root: Path) -> dict[str, tuple[int, int]]:
    """All that lies below a folder; of files the size and the time."""
    return {
        str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns)
        if path.is_file()
        else (0, 0)
        for path in root.rglob("*")
    }


def test_a_sound_shop_has_nothing_wrong_and_stays_as_it_is(one_night: Place) -> None:
    before = files_and_folders(one_night.root)
    findings = examined(one_night)
    assert sick(findings) == []
    assert {each.room for each in findings} == set(ROOMS)
    assert files_and_folders(one_night.root) == before


def test_before_the_first_night_nothing_is_wrong_and_no_lake_is_made(
    sample: Path, tmp_path: Path
) -> None:
    assert sick(examine(None, None, sample / "landing", tmp_path / "lake")) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "entry"),
    [
        ("timezone: UTC", "timezone: Mars/Olympus", "0.schedules.0.timezone"),
        ("30 3 * * *", "30 33 * * *", "schedule nightly of the deployment nightly"),
    ],
)
def test_schedules_that_cannot_be_are_wrong_before_there_is_a_server(
    tmp_path: Path, old: str, new: str, entry: str
) -> None:
    plan = tmp_path / "prefect.yaml"
    plan.write_text(SHIPPED_PLAN.read_text().replace(old, new, 1))
    shop = (None, None, tmp_path, tmp_path / "lake")
    (found,) = sick(examine(*shop, rooms=["orchestration"], plan=plan))
    assert (found.verdict, found.check) == ("wrong", "as planned")
    assert new.removeprefix("timezone: ") in found.found
    assert str(plan) in found.fix
    assert entry in f"{found.found} {found.fix}"


@pytest.mark.parametrize("name", LANDED)
def test_shipped_mappings_have_nothing_wrong(name: str, tmp_path: Path) -> None:
    for path, text in LANDED[name].items():
        (tmp_path / "landing" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "landing" / path).write_text(text)
    shop = (None, name, tmp_path / "landing", tmp_path / "lake")
    assert sick(examine(*shop, rooms=["settings", "sources", "storage"])) == []


def test_broken_settings_leave_the_machine_to_look_at(one_night: Place, tmp_path: Path) -> None:
    place = one_night.copy(tmp_path / "shop")
    place.settings.write_text("this is no toml")
    found = sick(examined(place))
    assert [each.check for each in found if each.verdict == "wrong"] == ["settings file"]
    assert {each.verdict for each in found if "not looked at" in each.found} == {"warning"}
    assert any(each.check == "libraries" for each in examined(place))


def test_a_check_that_breaks_is_a_finding(
    one_night: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def divides(case: Case) -> Iterator[Finding]:
        yield Finding("ok", str(1 / len(case.mapping_file[:0])))

    monkeypatch.setitem(ROOMS, "machine", (divides, *ROOMS["machine"]))
    found = examined(one_night, ["machine"])
    assert [(each.check, each.verdict) for each in sick(found)] == [("divides", "wrong")]
    assert "ZeroDivisionError" in sick(found)[0].found
    assert len(found) == len(examined(one_night, ["machine"]))
    assert len(found) > 4


def test_a_file_that_is_being_written(one_night: Place, sample: Path, tmp_path: Path) -> None:
    place = with_seventh_day(one_night, sample, tmp_path / "shop")
    path = place.landing / "events" / "dt=2026-01-11" / "part-9.jsonl.gz"
    is_over = Event()

    def write() -> None:
        with path.open("wb") as handle:
            while not is_over.wait(0.02):
                handle.write(b" ")
                handle.flush()

    writer = Thread(target=write)
    writer.start()
    try:
        found = [f for f in examined(place, ["sources"]) if f.check == "files at rest"]
    finally:
        is_over.set()
        writer.join()
    assert [each.verdict for each in found] == ["warning"]
    assert "write it as events/dt=2026-01-11/.part-9.jsonl.gz" in found[0].fix


def test_what_a_killed_doctor_left_goes(one_night: Place, tmp_path: Path) -> None:
    place = one_night.copy(tmp_path / "shop")
    left = place.lake / f".probing-nightrank-{platform.node()}-{gone_pid()}-1"
    (left / "ops").mkdir(parents=True)
    assert sick(examined(place, ["storage"])) == []
    assert not left.exists()


def test_a_clock_that_was_set_back_is_told(one_night: Place, tmp_path: Path) -> None:
    place = one_night.copy(tmp_path / "shop")
    case = opened(place.settings, None, place.landing, place.lake)
    lake = case.shop.lake
    with session(lake, Compute()) as s:
        decisions = read_history(s)
    serving = served(decisions)
    assert serving is not None
    ahead = time_after(each.decided_at for each in decisions).replace(year=2999)
    note(lake, Publication(**{**vars(serving), "decided_at": ahead}))
    found = sick(examined(place, ["storage"]))
    assert [each.check for each in found] == ["clocks"]
    assert "NTP" in found[0].fix


def test_no_room_for_nights_such_as_the_last(one_night: Place, tmp_path: Path) -> None:
    place = one_night.copy(tmp_path / "shop")
    case = opened(place.settings, None, place.landing, place.lake)
    lake = case.shop.lake
    day = max(lake.pin("ops.stages").days())
    row = lake.rows(lake.pin("ops.stages"), {"ds": day}).to_pylist()[0]
    lake.append("ops.stages", {"ds": day}, [row | {"run_id": "huge", "n_bytes": 10**17}])
    found = sick(examined(place, ["storage"]))
    assert {each.check for each in found} == {"room"}
    assert all("make room under" in each.fix for each in found)


def test_the_command_prints_and_exits(
    one_night: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = one_night.copy(tmp_path / "shop")
    shop = ["--settings", str(place.settings), "--landing", str(place.landing)]
    shop += ["--lake", str(place.lake), "--room", "settings", "--room", "machine"]
    assert main(["doctor", *shop]) == 0
    assert "settings file" in capsys.readouterr().out
    place.settings.write_text(place.settings.read_text() + "[publish]\nkk = 3\n")
    assert main(["doctor", *shop]) == 1
    assert "remove publish.kk" in capsys.readouterr().out
    assert main(["doctor", *shop, "--format", "json"]) == 1
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["counts"]["wrong"] == 1
    assert set(told["findings"][0]) == {"verdict", "found", "fix", "room", "check"}


def test_no_secret_and_no_id_is_told(
    one_night: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = one_night.copy(tmp_path / "shop")
    monkeypatch.setenv(KEY_VARIABLE, "not for anybody to see")
    text = place.settings.read_text() + "[privacy]\npseudonymise = true\n"
    place.settings.write_text(text)
    told = str(examined(place))
    assert "not for anybody" not in told
    assert "u0000" not in told

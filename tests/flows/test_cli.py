import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.cli import main
from flows.commands.nights import _day_to_show
from tasks.backfill import ledger
from tasks.lake.tables import Lake
from tasks.shop import open_shop
from tests.scenarios.nights import Place, day

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(one_night: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A shop that has run one night."""
    place = one_night.copy(tmp_path_factory.mktemp("cli") / "shop")
    place.refresh()
    return place


def shop(place: Place) -> list[str]:
    return [
        "--settings",
        str(place.settings),
        "--landing",
        str(place.landing),
        "--lake",
        str(place.lake),
    ]


def test_query_prints_a_table(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "SELECT 1 AS one, 'x' AS [b]", *shop(place)]) == 2
    assert main(["query", "SELECT 1 AS one, '[b]' AS two", *shop(place)]) == 0
    out = capsys.readouterr().out
    assert "one" in out
    assert "[b]" in out


def test_query_prints_csv_and_json(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    question = "SELECT 1 AS one, DATE '2026-01-05' AS day, [1, 2] AS list"
    assert main(["query", question, "--format", "csv", *shop(place)]) == 0
    assert capsys.readouterr().out == 'one,day,list\n1,2026-01-05,"[1, 2]"\n'
    assert main(["query", question, "--format", "json", *shop(place)]) == 0
    assert json.loads(capsys.readouterr().out) == {"one": 1, "day": "2026-01-05", "list": [1, 2]}


@pytest.mark.parametrize("sql", ["SELECT nonsense", "SELEC", "", "DROP VIEW serve.current"])
def test_wrong_sql_is_a_usage_error(
    place: Place, sql: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["query", sql, *shop(place)]) == 2
    assert "next:" in capsys.readouterr().err


def test_a_question_writes_nothing(place: Place, tmp_path: Path) -> None:
    target = tmp_path / "written.csv"
    assert main(["query", f"COPY (SELECT 1) TO '{target}'", *shop(place)]) == 2
    assert not target.exists()


def test_odd_answers_are_shown(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", 'SELECT 1 AS "[/x]", 2 AS "[red]"', *shop(place)]) == 0
    assert "[red]" in capsys.readouterr().out
    question = "SELECT 'nan'::DOUBLE AS x, ['inf'::DOUBLE, 1] AS y"
    assert main(["query", question, "--format", "json", *shop(place)]) == 0
    assert json.loads(capsys.readouterr().out) == {"x": None, "y": [None, 1]}


def test_a_reader_that_has_seen_enough(place: Place) -> None:
    question = "SELECT * FROM range(1000000)"
    command = [sys.executable, "-m", "flows.cli", "query", question, "--format", "csv"]
    with subprocess.Popen(
        [*command, *shop(place)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as asked:
        assert asked.stdout is not None
        assert asked.stderr is not None
        asked.stdout.readline()
        asked.stdout.close()
        assert asked.stderr.read() == b""
    assert asked.returncode == 0


def test_letters_that_a_terminal_lacks_are_escaped(place: Place) -> None:
    command = [sys.executable, "-m", "flows.cli", "query", "SELECT 'caf\u00e9' AS x"]
    done = subprocess.run(
        [*command, *shop(place)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        cwd=ROOT,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert b"caf\\xe9" in done.stdout


def test_status_names_what_is_served_and_every_table(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", *shop(place)]) == 0
    out = capsys.readouterr().out
    assert f"served: {day(5)}-" in out
    assert "features.behaviours_daily" in out
    assert "stale" not in out


def test_report_prints_the_path_of_a_page(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *shop(place)]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page.name == f"{day(5)}.html"
    assert page.stat().st_size > 10_000


def test_a_date_that_a_backfill_made_has_a_page(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = Lake(place.lake)
    entry = ledger.Entry(
        ds=day(-1),
        place=1,
        state="done",
        first_ds=day(-2),
        last_ds=day(-1),
        choice="all",
        as_of="then",
        models=["bpr"],
        is_newest_first=False,
        keeps_aside=False,
        max_active=1,
        recipe="recipe",
        pins=[],
        planned_at=datetime.now(UTC),
        plan_id="plan-1",
    )
    entries = [entry, replace(entry, ds=day(-2), place=2, state="waiting")]
    ledger.write(lake, entries)
    assert main(["report", "--ds", str(day(-1)), *shop(place)]) == 0
    assert "a backfill made it" in Path(capsys.readouterr().out.strip()).read_text()
    assert main(["report", "--ds", str(day(-2)), *shop(place)]) == 2
    assert f"neither a night nor a backfill has made {day(-2)}" in capsys.readouterr().err


def test_the_page_of_a_night_asks_no_plan(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_: object) -> list[ledger.Entry]:
        raise AssertionError("all plans were read")

    monkeypatch.setattr(ledger, "every", read)
    opened = open_shop(place.settings, None, place.landing, place.lake)
    assert _day_to_show(opened, day(5)) == day(5)
    assert _day_to_show(opened, None) == day(5)


def test_usage_errors_exit_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    landing, lake = ["--landing", str(tmp_path)], ["--lake", str(tmp_path / "lake")]
    for ds in ("yesterday", "", "20260109", "2026-W02-5"):
        assert main(["run", "--ds", ds, *landing, *lake]) == 2
    assert main(["status", "--mapping", "nonsense", *landing, *lake]) == 2
    assert main(["status", "--landing", str(tmp_path / "absent"), *lake]) == 2
    assert main(["report", *landing, *lake]) == 2
    with pytest.raises(SystemExit) as left:
        main(["nonsense"])
    assert left.value.code == 2
    assert "no mapping named" in capsys.readouterr().err


def test_nothing_to_ask_yet(tmp_path: Path) -> None:
    assert main(["query", "SELECT 1", "--lake", str(tmp_path)]) == 1


def test_sample_writes_a_shop_and_refuses_nonsense(tmp_path: Path) -> None:
    size = ["--days", "1", "--users", "20", "--items", "40"]
    assert main(["sample", *size, "--root", str(tmp_path)]) == 0
    assert (tmp_path / "landing" / "events").is_dir()
    assert main(["sample", "--days", "0", "--root", str(tmp_path / "none")]) == 2
    assert not (tmp_path / "none").exists()


def test_deploy_looks_at_everything_before_it_speaks_to_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even where none is named: what is wrong here is told first."""
    mail = '[alerts.mail]\nserver = "127.0.0.1"\nsender = "n@shop.example"\n'
    mail += 'recipients = ["o@shop.example"]\nuser = "n"\npassword = "NIGHTRANK_TEST_PASSWORD"\n'
    monkeypatch.setenv("NIGHTRANK_TEST_HOOK", "hidden")
    monkeypatch.delenv("NIGHTRANK_TEST_PASSWORD", raising=False)
    (tmp_path / "landing").mkdir()
    settings = tmp_path / "settings.toml"
    command = ["deploy", "--settings", str(settings), "--landing", str(tmp_path / "landing")]
    for text, told in (
        ('[alerts]\nwebhook = "NIGHTRANK_TEST_HOOK"\n', "NIGHTRANK_TEST_HOOK holds no URL"),
        (mail, "NIGHTRANK_TEST_PASSWORD is not set"),
        ("", "no Prefect server is named"),
    ):
        settings.write_text(text)
        assert main([*command, "--lake", str(tmp_path / "lake")]) == 2
        assert told in capsys.readouterr().err

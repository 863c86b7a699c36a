"""What housekeeping removes and what it leaves, beside readers and writers."""

import os
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from expectations.catalogue import stored
from tasks import housekeeping
from tasks.backfill.plan import plans_folder
from tasks.housekeeping import housekeep
from tasks.lake.connection import connect
from tasks.lake.tables import Lake, Partition
from tasks.lake.warehouse import warehouse_path
from tasks.shop import Shop, open_shop
from tests.disk import on_disk
from tests.scenarios.nights import Place, contents, day, leave_out_what_only_reads

SOON = datetime.now(UTC) + timedelta(hours=1)
LATER = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture
def kept(one_night: Place, tmp_path: Path) -> Place:
    place = one_night.copy(tmp_path / "shop")
    place.refresh()
    return place


def shop(place: Place) -> Shop:
    return open_shop(place.settings, None, place.landing, place.lake)


def age(lake: Path, days: int) -> None:
    """Make every file that old; the log's own words about deletions cannot be made older."""
    then = (datetime.now(UTC) - timedelta(days=days)).timestamp()
    for path in lake.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def test_every_row_stays_and_twice_does_nothing(kept: Place) -> None:
    before = contents(kept.lake)
    place = shop(kept)
    assert {each.what for each in housekeep(place)} >= set(stored())
    assert contents(kept.lake) == before
    versions = {name: place.lake.pin(name).version for name in stored()}
    again = list(housekeep(place))
    assert {name: place.lake.pin(name).version for name in stored()} == versions
    assert all(each.bytes_before == each.bytes_after for each in again if each.what in stored())
    assert kept.ask("SELECT count(*) FROM serve.current")[0][0] > 0


def test_files_that_nobody_needs_go_when_they_are_old(kept: Place) -> None:
    place, before = shop(kept), contents(kept.lake)
    orphan = kept.lake / "clean" / "events" / f"ds={day(0)}" / "part-killed.parquet"
    orphan.write_bytes(b"half a file")
    list(housekeep(place))
    assert orphan.exists()  # a writer may be at it
    age(orphan.parent, days=8)
    chores = {each.what: each for each in housekeep(place)}
    assert not orphan.exists()
    assert "1 removed" in chores["clean.events"].did
    assert contents(kept.lake) == before


def test_files_that_a_plan_has_pinned_stay_until_it_has_ended(kept: Place) -> None:
    place = shop(kept)
    lake, name = place.lake, "ops.files"
    chores = place.settings.housekeeping.model_copy(update={"keep_hours": 0})
    settings = place.settings.model_copy(update={"housekeeping": chores})
    place = replace(place, settings=settings)
    pinned = lake.pin(name)
    for _ in range(2):  # the first of these writes is pinned by nobody
        between = lake.pin(name)
        lake.append(name, {"ds": day(5)}, [])

    def planned(state: str, days: int) -> None:
        night = dict.fromkeys(lake.schema("ops.backfills").names)
        night |= {"plan_id": "p", "ds": day(0), "state": state, "place": 0}
        night |= {"planned_at": datetime.now(UTC) - timedelta(days=days)}
        night |= {"pins": [f"{name}@{pinned.version}", "ops.stages@1000"]}
        lake.put("ops.backfills", {"plan_id": "p"}, [night])
        list(housekeep(place))

    planned("cancelled", days=29)  # it may be resumed
    assert all(Path(path).exists() for path in pinned.files())
    assert not all(Path(path).exists() for path in between.files())
    planned("cancelled", days=31)
    assert not all(Path(path).exists() for path in pinned.files())
    assert housekeeping._pinned(lake, datetime.now(UTC)) == {}
    planned("failed", days=1)
    assert housekeeping._pinned(lake, datetime.now(UTC)) == {}


def test_readers_of_the_views_of_before_go_on(kept: Place) -> None:
    place = shop(kept)
    with connect(on_disk(warehouse_path(place.lake)), read_only=True) as reader:
        rows = reader.sql("SELECT count(*) FROM ops.stages").fetchall()
        place.lake.append("ops.stages", {"ds": day(5)}, [])  # its file is another one now
        list(housekeep(place))
        assert reader.sql("SELECT count(*) FROM ops.stages").fetchall() == rows


def test_small_files_become_one_with_the_same_rows(kept: Place) -> None:
    place = shop(kept)
    name = "ops.quarantine"
    folder = place.lake.path(name)
    table = DeltaTable(str(folder))
    rows = place.lake.rows(place.lake.pin(name), {"ds": day(5)})
    from deltalake import write_deltalake

    write_deltalake(table, rows.slice(0, 0), mode="append")
    for _ in range(3):
        write_deltalake(DeltaTable(str(folder)), rows.slice(0, 1), mode="append")
    before = sorted(map(str, place.lake.rows(place.lake.pin(name), {"ds": day(5)}).to_pylist()))
    n_files = len(place.lake.pin(name).days()[day(5)])
    assert n_files > 1
    chores = {each.what: each for each in housekeep(place)}
    assert chores[name].did.startswith(f"{n_files - 1} files fewer")
    assert len(place.lake.pin(name).days()[day(5)]) == 1
    after = place.lake.rows(place.lake.pin(name), {"ds": day(5)}).to_pylist()
    assert sorted(map(str, after)) == before


def test_what_increments_are_made_of_is_not_put_together(kept: Place) -> None:
    """Its files say what a day was made from: the next night would make all of them again."""
    inputs = housekeeping._inputs_of_increments(shop(kept))
    assert {"clean.events", "clean.impressions"} <= inputs
    assert not {"ops.quarantine", "ops.checks", "serve.recommendations"} & inputs


def test_a_night_writes_while_files_are_put_together(kept: Place) -> None:
    """What was pinned before is refused by the log, and the night reads and computes again."""
    from tasks.lake.upkeep import keep_up

    lake: Lake = shop(kept).lake
    pinned = lake.pin("ops.nights")
    keep_up(lake, "ops.nights", timedelta(hours=1))
    lake.replace(pinned, {"ds": day(5)}, lake.rows(pinned, {"ds": day(5)}))
    assert lake.pin("ops.nights").version > pinned.version


def test_releases_of_old_dates_go_unless_a_history_names_them(kept: Place) -> None:
    with kept.settings.open("a") as settings:
        settings.write("[housekeeping]\nrelease_days = 3\n")
    place = shop(kept)
    rows = place.lake.rows(place.lake.pin("serve.recommendations"), {"ds": day(5)})
    named = rows.column("release_id").to_pylist()[0]
    for ds, release in ((day(0), "undecided-old"), (day(5), "undecided-new"), (day(0), "planned")):
        put_recommendation(place.lake, rows, ds, release)
    night = dict.fromkeys(place.lake.schema("ops.backfills").names)
    night |= {"plan_id": "p", "ds": day(0), "state": "done", "release_id": "planned"}
    night |= {"planned_at": datetime.now(UTC), "pins": []}
    place.lake.put("ops.backfills", {"plan_id": "p"}, [night])
    there = {path.split("release_id=")[1].split("/")[0] for path in files(place.lake)}
    assert there == {named, "undecided-old", "undecided-new", "planned"}
    list(housekeep(place, SOON))
    assert {path.split("release_id=")[1].split("/")[0] for path in files(place.lake)} == there
    list(housekeep(place, LATER))  # nobody writes at it any more
    left = {path.split("release_id=")[1].split("/")[0] for path in files(place.lake)}
    assert left == {named, "undecided-new", "planned"}


def test_candidates_and_weights_of_old_dates_go_and_what_is_needed_stays(kept: Place) -> None:
    """Those of what is served stay, of a model's last version, and of nights not so long ago."""
    with kept.settings.open("a") as settings:
        settings.write("[housekeeping]\nrelease_days = 3\n")
    place = shop(kept)
    lake, folder = place.lake, kept.lake / "models"
    rows = lake.rows(lake.pin("serve.candidates"), {"ds": day(5), "model": "bpr"})
    at = rows.schema.get_field_index("ds")
    for ds in (day(1), day(2)):
        column = pa.array([ds] * rows.num_rows, rows.schema.field(at).type)
        table = rows.set_column(at, rows.schema.field(at), column)
        where: Partition = {"ds": ds, "model": "bpr"}
        lake.replace(lake.pin("serve.candidates"), where, table)
    (made,) = [r for r in models(lake, day(5)) if r["model"] == "bpr"]
    for ds, model, version in (
        (day(1), "bpr", "old"),
        (day(2), "bpr", "new"),
        (day(1), "ease", "first"),
        (day(1), "ease", "last"),
    ):
        row = made | {"ds": ds, "model": model, "model_version": version, "release_id": version}
        lake.append("ops.models", {"ds": ds}, [row | {"kept_at": datetime.now(UTC)}])
        (folder / model / version).mkdir(parents=True)
    (folder / "bpr" / "unnoted").mkdir()
    before = versions(folder)

    list(housekeep(place, SOON))
    assert versions(folder) == before  # a night may be at it
    chores = {each.what: each for each in housekeep(place, LATER)}
    assert before - versions(folder) == {"bpr/old", "bpr/unnoted", "ease/first"}
    assert f"bpr/{made['model_version']}" in versions(folder)
    assert chores["weights of models"].did == "3 versions removed"
    assert chores["serve.candidates: old dates"].did == "1 dropped"
    assert set(lake.pin("serve.candidates").days()) == {day(2), day(5)}
    assert chores["weights of models"].bytes_before >= 0
    assert kept.ask("SELECT count(*) FROM serve.current")[0][0] > 0


def models(lake: Lake, ds: date) -> list[dict[str, Any]]:
    return list(lake.rows(lake.pin("ops.models"), {"ds": ds}).to_pylist())


def versions(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.glob("*/*") if path.is_dir()}


def test_plans_of_dead_runs_are_put_right(kept: Place) -> None:
    left = plans_folder(shop(kept).lake) / "of-no-plan"
    left.mkdir(parents=True)
    (left / "file").write_text("much")
    chores = {each.what: each for each in housekeep(shop(kept))}
    assert not left.exists()
    chore = chores["plans of backfills"]
    assert (chore.did, chore.bytes_before, chore.bytes_after) == ("1 put right", 4, 0)


def files(lake: Lake) -> list[str]:
    return lake.pin("serve.recommendations").files()


def put_recommendation(lake: Lake, rows: object, ds: object, release: str) -> None:
    assert isinstance(rows, pa.Table)
    one = rows.slice(0, 1)
    for column, value in (("ds", ds), ("release_id", release)):
        index = one.schema.get_field_index(column)
        field = one.schema.field(index)
        one = one.set_column(index, field, pa.array([value], field.type))
    lake.rewrite("serve.recommendations", {"ds": str(ds), "release_id": release}, lambda _: one)


def test_old_pages_and_what_killed_trainings_left_go(kept: Place) -> None:
    place = shop(kept)
    reports = kept.lake / "reports"
    reports.mkdir(exist_ok=True)
    for name in ("2020-01-01.html", f"{day(5)}.html", "notes.html"):
        (reports / name).write_text("page")
    left = kept.lake / "models" / "bpr" / ".training-dead.safetensors"
    left.write_bytes(b"weights")
    chores = {each.what: each for each in housekeep(place, LATER)}
    assert {page.name for page in reports.iterdir()} == {f"{day(5)}.html", "notes.html"}
    assert chores["left by killed trainings"].did == "1 removed"
    assert not left.exists()


def test_the_next_night_finds_all_that_it_needs(
    place: Place, two_nights: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_what_only_reads(monkeypatch)
    list(housekeep(shop(place)))
    assert place.run().ending == "published"
    assert contents(place.lake) == contents(two_nights.lake)

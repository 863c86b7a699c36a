"""Misconfigurations, each planted for real in a shop that has run a night, and how it is mended."""

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.doctor.examine import ROOMS, examine
from tasks.doctor.findings import Finding
from tasks.ingest.pseudonyms import KEY_VARIABLE
from tests.flows.receivers import mailbox
from tests.scenarios.nights import Place

Mend = Callable[[str], None]
"""Does what the fix says."""
Planting = Callable[[Place, pytest.MonkeyPatch], Mend]


@dataclass(frozen=True)
class Plant:
    """One misconfiguration: whose finding it is, and what the fix must name."""

    name: str
    check: str
    fix: str
    plant: Planting


PLANTS: list[Plant] = []


def planted(check: str, fix: str) -> Callable[[Planting], Planting]:
    """Add a planting to the list; `fix` is a regular expression."""

    def add(plant: Planting) -> Planting:
        PLANTS.append(Plant(plant.__name__, check, fix, plant))
        return plant

    return add


def examined(place: Place, rooms: Sequence[str] = tuple(ROOMS)) -> list[Finding]:
    """What doctor finds in a shop."""
    return examine(place.settings, None, place.landing, place.lake, rooms)


def room_of(check: str) -> str:
    """Where a check stands."""
    return next(
        room
        for room, checks in ROOMS.items()
        if check in [each.__name__.replace("_", " ") for each in checks]
    )


def sick(findings: list[Finding]) -> list[Finding]:
    """Those that are not as they should be."""
    return [finding for finding in findings if finding.verdict != "ok"]


def gone_pid() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def _in(path: Path, old: str, new: str) -> Mend:
    """Change a text file; mended, the old text stands there again."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return lambda fix: _write(path, text)


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _settings(place: Place, lines: str) -> Mend:
    text = place.settings.read_text()
    place.settings.write_text(text + lines)
    return lambda fix: _write(place.settings, text)


def _run(fix: str) -> None:
    """The command that a fix begins with, up to its colon or semicolon."""
    subprocess.run(fix.split(":")[0].split(";")[0], shell=True, check=True)


@planted("settings file", r"settings\.toml: remove train\.modles, or write models")
def unknown_key(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    return _settings(place, '[train]\nmodles = ["bpr"]\n')


@planted("settings file", r"settings\.toml: mend publish\.k$")
def impossible_value(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    return _settings(place, "[publish]\nk = 0\n")


@planted("settings file", r"settings\.toml: mend publish\.model, train\.models")
def published_model_is_not_trained(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    return _settings(place, '[publish]\nmodel = "ease"\n')


@planted("models", r"settings\.toml: write one of the registry in train\.models: lightgcn")
def unknown_model(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    return _settings(place, '[train]\nmodels = ["popularity", "bpr", "lightgnc"]\n')


@planted("models", r"mend train\.configs\.bpr; models/bpr\.py")
def wrong_config(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    return _in(place.settings, "n_factors = 8", 'n_factors = "eight"')


@planted("propensities", r'propensity\.estimator = "auto"; or .*mapping\.toml: map p_logged')
def estimator_without_its_data(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    _settings(place, '[propensity]\nestimator = "logged"\n')
    _own_mapping(place, 'p_logged = "propensity"\n', "")

    def mend(fix: str) -> None:
        place.settings.write_text(
            place.settings.read_text().replace('estimator = "logged"', 'estimator = "auto"')
        )

    return mend


def _shipped(place: Place) -> Path:
    return Path(place.settings.read_text().splitlines()[0].split('"')[1])


@planted("pseudonyms", f"privacy.pseudonymise, {KEY_VARIABLE}: go back")
def another_key_than_the_lakes(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    patch.setenv(KEY_VARIABLE, "a long random text of no meaning")
    return _settings(place, "[privacy]\npseudonymise = true\n")


@planted("pseudonyms", f"set {KEY_VARIABLE}")
def no_key(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    patch.delenv(KEY_VARIABLE, raising=False)
    shutil.rmtree(place.lake)
    _settings(place, "[privacy]\npseudonymise = true\n")
    return lambda fix: patch.setenv(KEY_VARIABLE, "a long random text of no meaning")


@planted("mapping file", r"mapping\.toml: mend events\.time\.zone")
def no_such_time_zone(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    return _own_mapping(place, 'unit = "ms" }', 'unit = "ms", zone = "Mars/Olympus" }')


def _own_mapping(place: Place, old: str, new: str) -> Mend:
    """A mapping of the copy's own, changed."""
    mapping = place.root / "mapping.toml"
    if not mapping.exists():
        mapping.write_text(_shipped(place).read_text())
    text = place.settings.read_text()
    place.settings.write_text(text.replace(str(_shipped(place)), str(mapping)))
    return _in(mapping, old, new)


@planted("columns and records", r"mapping\.toml: mend user_id in \[events\.columns\]")
def column_that_does_not_exist(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    return _own_mapping(place, 'user_id = "user_id"', 'user_id = "customer"')


@planted("columns and records", r"mapping\.toml: mend is_in_stock in \[items\.columns\]")
def column_of_a_catalogue_that_does_not_exist(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    return _own_mapping(place, 'is_in_stock = "in_stock"', 'is_in_stock = "stock"')


@planted("columns and records", r"mapping\.toml: mend \[events\], time \(its column, unit")
def wrong_unit_of_time(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    return _own_mapping(place, 'unit = "ms"', 'unit = "s"')


@planted("patterns", r"mapping\.toml: mend files in \[events\]")
def pattern_that_matches_nothing(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    return _own_mapping(place, "events/dt=*/*.jsonl.gz", "events/day=*/*.jsonl.gz")


@planted("patterns", r"\[events\]: move the file away, or narrow files or mend arrived\.path")
def path_without_a_date(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    stray = place.landing / "events" / "dt=latest" / "part-0.jsonl.gz"
    stray.parent.mkdir()
    shutil.copy(next(place.landing.glob("events/*/*.gz")), stray)
    return lambda fix: shutil.rmtree(stray.parent)


@planted("landing folder", r"paths\.landing: .*--landing")
def no_landing_folder(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    aside = place.root / "aside"
    place.landing.rename(aside)

    def mend(fix: str) -> None:
        aside.rename(place.landing)

    return mend


@planted("times of files", r"touch events/dt=2026-01-11/part-0\.jsonl\.gz")
def file_of_the_future(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    path = place.landing / "events" / "dt=2026-01-11" / "part-0.jsonl.gz"
    os.utime(path, (time.time() + 86_400, time.time() + 86_400))
    return lambda fix: _run(fix.replace("touch ", f"touch {place.landing}/"))


@planted("folder", r"paths\.lake: make .* a folder")
def lake_is_no_folder(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    shutil.rmtree(place.lake)
    place.lake.write_text("")
    return lambda fix: place.lake.unlink()


@planted("tables", r"rm -r .*/features/popularity_daily: the next night makes it anew")
def table_of_another_version(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    folder = place.lake / "features" / "popularity_daily"
    shutil.rmtree(folder)
    shutil.copytree(place.lake / "features" / "traffic_daily", folder)
    return _run


@planted("tables", r"restore .*/clean/events from a copy")
def lost_file_of_a_table(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    file = next((place.lake / "clean" / "events").rglob("*.parquet"))
    aside = file.rename(place.root / file.name)

    def mend(fix: str) -> None:
        aside.rename(file)

    return mend


@planted("what is served", "nightrank run")
def pointer_to_another_release(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    pointer = place.lake / "serve" / "current" / "served"
    return _in(pointer, pointer.read_text(), "2026-01-01-000000000000")


@planted("leftovers", r"rm -r .*/models/bpr/\.making-nightrank-")
def left_by_a_killed_writer(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    name = f".making-nightrank-{platform.node()}-{gone_pid()}-1"
    (place.lake / "models" / "bpr" / name).mkdir()
    return _run


@planted("memory", r'settings\.toml: compute\.memory_limit = "\d+MiB"')
def more_memory_than_there_is(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    text = place.settings.read_text()
    place.settings.write_text(text + '[compute]\nmemory_limit = "900000GB"\n')

    def mend(fix: str) -> None:
        wanted = fix.split("compute.")[1].split(", or")[0]
        place.settings.write_text(text + f"[compute]\n{wanted}\n")

    return mend


@planted("threads", r"settings\.toml: compute\.threads = 0")
def more_threads_than_cores(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    return _settings(place, "[compute]\nthreads = 1000\n")


@planted("device", r'settings\.toml: train\.device = "auto"')
def no_gpu(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    return _settings(place, '[train]\ndevice = "cuda"\n')


@planted("libraries", r"pip install --constraint constraints\.txt 'fastapi")
def fastapi_that_breaks_prefect(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    folder = place.root / "site"
    about = folder / "fastapi-0.160.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: fastapi\nVersion: 0.160.0\n")
    patch.syspath_prepend(str(folder))
    return lambda fix: sys.path.remove(str(folder))


@planted("prefect home", r"let PREFECT_HOME name a folder that can be written")
def prefect_home_is_no_folder(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    (place.root / "home").write_text("")
    patch.setenv("PREFECT_HOME", str(place.root / "home"))
    return lambda fix: patch.setenv("PREFECT_HOME", str(place.root / "prefect"))


@planted("prefect server", r"prefect server start.*PREFECT_API_URL")
def server_that_is_not_there(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    until = ExitStack()
    until.enter_context(
        temporary_settings({PREFECT_API_URL: "http://someone:hidden@127.0.0.1:9/api"})
    )
    return lambda fix: until.close()


@planted("alerts", r"set NIGHTRANK_TEST_HOOK where nightrank deploy or up is run")
def webhook_whose_variable_is_not_set(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    patch.delenv("NIGHTRANK_TEST_HOOK", raising=False)
    _settings(place, '[alerts]\nwebhook = "NIGHTRANK_TEST_HOOK"\n')
    return lambda fix: patch.setenv("NIGHTRANK_TEST_HOOK", "https://hooks.example/hidden")


@planted("alerts", r"set NIGHTRANK_TEST_HOOK to https://")
def webhook_that_is_no_url(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    patch.setenv("NIGHTRANK_TEST_HOOK", "hidden")
    _settings(place, '[alerts]\nwebhook = "NIGHTRANK_TEST_HOOK"\n')
    return lambda fix: patch.setenv("NIGHTRANK_TEST_HOOK", "https://hooks.example/hidden")


@planted("alerts", r"settings\.toml: mend alerts\.mail\.server and alerts\.mail\.port")
def server_of_mail_that_is_not_there(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    return _mail(place, port=9)


@planted("alerts", r"settings\.toml: alerts\.mail\.starttls = false")
def server_of_mail_that_does_not_encrypt(place: Place, patch: pytest.MonkeyPatch) -> Mend:
    until = ExitStack()  # the server lives for as long as what mends does
    port, _ = until.enter_context(mailbox())
    _mail(place, port=port, more="starttls = true\n")

    def mend(fix: str, until: ExitStack = until) -> None:
        text = place.settings.read_text()
        place.settings.write_text(text.replace("starttls = true", "starttls = false"))

    return mend


def _mail(place: Place, port: int, more: str = "") -> Mend:
    who = 'sender = "n@shop.example"\nrecipients = ["oncall@shop.example"]\n'
    return _settings(place, f'[alerts.mail]\nserver = "127.0.0.1"\nport = {port}\n{more}{who}')

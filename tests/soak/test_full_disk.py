"""A disk that fills up in a night: one clear error, a whole list served, and a rerun heals."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.errors import NightrankError
from tests.scenarios.nights import Place, contents, in_process
from tests.tasks.lake.test_refused import small_disk

pytestmark = pytest.mark.soak
SERVED = "SELECT user_id, rank, item_id, score, ds FROM serve.current ORDER BY ALL"
LARGE = 500  # MiB, more than a small shop needs


def test_a_disk_that_fills_up_in_a_night(place: Place, two_nights: Place, tmp_path: Path) -> None:
    whole = (place.ask(SERVED), two_nights.ask(SERVED))
    room, n_failed = 0, 0
    while True:
        with small_disk(tmp_path / f"disk-{room}", LARGE) as disk:
            shop = place.copy(disk / "shop")
            shop.refresh()
            _resize(disk, shutil.disk_usage(disk).used // 2**10 + room)
            said = tmp_path / f"said-{room}"
            if in_process(_run, shop, said) == 0:
                break
            n_failed += 1
            what, _, _, fix = said.read_text().splitlines()
            assert "No space left" in what, what
            assert "paths.lake" in fix
            assert shop.ask(SERVED) in whole
            _resize(disk, LARGE * 2**10)
            assert in_process(_run, shop, said) == 0
            assert contents(shop.lake) == contents(two_nights.lake)
        room += 80  # KiB
    assert n_failed > 8


def _run(shop: Place, said: Path) -> None:
    try:
        shop.run()
    except NightrankError as error:
        said.write_text(str(error))
        raise SystemExit(1) from error


def _resize(disk: Path, kib: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kib}k", str(disk)], check=True)

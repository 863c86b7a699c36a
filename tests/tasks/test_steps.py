"""What Prefect is told of a stage, without a server."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import torch

from tasks import steps
from tasks.ingest.landing import Arrival
from tasks.night import Night
from tasks.progress import Nobody
from tasks.settings import Train
from tasks.shop import Shop, open_shop


class Told(Nobody):
    def __init__(self) -> None:
        self.moves: list[tuple[float, float, str]] = []
        self.lines: list[str] = []

    def moved(self, done: float, total: float, note: str) -> None:
        self.moves.append((done, total, note))

    def said(self, text: str) -> None:
        self.lines.append(text)


class Ui:
    """Stands in for Prefect's API and its clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bars: dict[UUID, list[float]] = {}
        self.keys: list[str] = []
        self.lines: list[str] = []
        self.clock = 100.0
        self.is_down = False
        logger = SimpleNamespace(info=lambda text, *of: self.lines.append(text % of))
        monkeypatch.setattr(steps, "get_run_logger", lambda: logger)
        monkeypatch.setattr(steps, "create_progress_artifact", self.create)
        monkeypatch.setattr(steps, "update_progress_artifact", self.update)
        monkeypatch.setattr(steps, "time", SimpleNamespace(monotonic=lambda: self.clock))

    def create(self, percent: float, key: str, description: str) -> UUID:
        if self.is_down:
            raise httpx.ConnectError("nobody answers")
        artifact = uuid4()
        self.bars[artifact], self.keys = [percent], [*self.keys, key]
        return artifact

    def update(self, artifact: UUID, percent: float) -> None:
        self.bars[artifact].append(percent)


def test_a_stage_is_one_bar_that_moves_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    ui, told = Ui(monkeypatch), Told()
    shown = steps._InUi(told, "train bpr")
    for n in range(1, 101):
        ui.clock += 1
        shown.moved(n, 100, f"step {n}")
    assert len(told.moves) == 100
    assert ui.keys == ["train-bpr"]
    assert list(ui.bars.values()) == [[*range(1, 100, 5), 100]]
    assert ui.lines[0] == "train bpr: 1 %, step 1"
    assert ui.lines[-1] == "train bpr: 100 %, step 100"


def test_whom_a_run_waits_for_stands_in_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    ui, told = Ui(monkeypatch), Told()
    steps._InUi(told, "begin").said("waiting for run a")
    assert (ui.lines, told.lines) == (["waiting for run a"], ["waiting for run a"])


def test_a_ui_that_is_away_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ui, told = Ui(monkeypatch), Told()
    ui.is_down = True
    shown = steps._InUi(told, "build_features")
    shown.moved(1, 2, "")
    ui.is_down = False
    shown.moved(2, 2, "")
    assert told.moves == [(1, 2, ""), (2, 2, "")]
    assert ui.keys == ["build-features"]


@pytest.mark.parametrize(
    ("device", "has_gpu", "is_one"),
    [("auto", True, True), ("auto", False, False), ("cpu", True, False), ("cuda", True, True)],
)
def test_only_what_works_on_a_gpu_is_held_back(
    device: Any, has_gpu: bool, is_one: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    shop = open_shop(None, None, tmp_path, tmp_path / "lake")
    settings = shop.settings.model_copy(update={"train": Train(device=device)})
    assert steps.is_on_gpu(night_of(Shop(settings, shop.mapping))) == is_one


def night_of(shop: Shop) -> Night:
    return Night(shop, "run", datetime.now(UTC), Arrival(None, ()))


def test_a_page_is_linked_to_where_it_lies() -> None:
    assert steps.page_address("/lake/reports/2026-01-05.html") == (
        "file:///lake/reports/2026-01-05.html"
    )
    assert steps.page_address("s3://shop/lake/reports/2026-01-05.html") == (
        "s3://shop/lake/reports/2026-01-05.html"
    )

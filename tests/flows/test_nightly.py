"""The night through Prefect: a real server, and the real command."""

import re
from typing import Any

import pytest

from flows.cli import main
from tests.flows.servers import at
from tests.scenarios.nights import Place, contents, day, leave_out_what_only_reads

pytestmark = pytest.mark.prefect


def run(place: Place) -> int:
    where = ("--settings", place.settings, "--landing", place.landing, "--lake", place.lake)
    return main(["run", *map(str, where)])


def test_what_the_command_and_prefect_tell(
    place: Place,
    two_nights: Place,
    prefect_api: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Task runs carry the stages' names and states; artifacts show the night.

    Stages on a GPU have one place at a time, which here is taken as if there were one.
    """
    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.concurrency.sync import concurrency

    from tasks import gpu, steps
    from tasks.train import night as training

    leave_out_what_only_reads(monkeypatch)
    monkeypatch.setattr(steps, "is_on_gpu", lambda _: True)
    held: list[int] = []
    train_model = training.train_model

    def watched(*args: Any) -> Any:
        with get_client(sync_client=True) as client:
            held.append(client.read_global_concurrency_limit_by_name(gpu.LIMIT).active_slots)
        # no other run has a place meanwhile
        with pytest.raises(TimeoutError), concurrency(gpu.LIMIT, timeout_seconds=0.5):
            held.append(-1)
        return train_model(*args)

    monkeypatch.setattr(training, "train_model", watched)
    with at(prefect_api):
        assert run(place) == 0
        out = capsys.readouterr().out
        with get_client(sync_client=True) as client:
            limit = client.read_global_concurrency_limit_by_name(gpu.LIMIT)
            (flow_run,) = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
            this = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
            runs = client.read_task_runs(flow_run_filter=this)
            wanted = {"artifacts": {"flow_run_id": {"any_": [str(flow_run.id)]}}}
            artifacts: Any = client.request("POST", "/artifacts/filter", json=wanted).json()
    assert f"{day(6)}: published" in out
    assert re.search(r"publish\s+│ done", out)
    assert contents(place.lake) == contents(two_nights.lake)
    assert place.ask("SELECT DISTINCT ds FROM serve.current") == [(day(6),)]

    names = {run.name for run in runs}
    assert {"ingest", "check clean", "train bpr", "publish"} <= names
    assert {run.state_name for run in runs} == {"Completed"}
    shown = {"night", "stages", "report", "train-bpr", "score-bpr", "score-popularity"}
    assert {each["key"] for each in artifacts} == shown
    bars = [each["data"] for each in artifacts if each["key"] == "train-bpr"]
    assert bars == [100.0]

    assert (held, limit.limit, limit.active_slots) == ([1] * 2, 1, 0)
    # for a tag the server is asked before a task begins: one that is away would end the night
    assert [run.name for run in runs if run.tags] == []


def test_a_server_that_is_not_there(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with at("http://127.0.0.1:9/api"):
        assert run(place) == 1
    err = capsys.readouterr().err
    assert "Prefect could not begin" in err
    assert "Traceback" not in err

from pathlib import Path
from typing import Any

import pytest

from tasks.errors import SettingsError
from tasks.operate.plan import SHIPPED_PLAN, all_on_gpu, read_plan

TEXT = SHIPPED_PLAN.read_text()


def test_the_shipped_plan_says_what_runs_when() -> None:
    plan = read_plan(SHIPPED_PLAN)
    when = {each.full_name: [s.cron for s in each.schedules] for each in plan.deployments}
    assert when == {
        "nightly/nightly": ["30 3 * * *"],
        "ingest-hourly/ingest-hourly": ["5 * * * *"],
        "housekeeping-weekly/housekeeping-weekly": ["0 12 * * 0"],
    }
    assert plan.pools == ("cpu",)
    assert all("nightrank" in each.tags for each in plan.deployments)  # alerts look for this tag
    assert {each.concurrency_limit.limit for each in plan.deployments} == {1}
    nightly = plan.deployments[0].concurrency_limit
    assert nightly.collision_strategy == "ENQUEUE"  # a dead night must not cost the next


def test_prefect_reads_the_shipped_plan_too() -> None:
    import yaml
    from prefect.cli.deploy._models import PrefectYamlModel

    theirs = PrefectYamlModel.model_validate(yaml.safe_load(TEXT))
    assert [each.name for each in theirs.deployments] == [
        each.name for each in read_plan(SHIPPED_PLAN).deployments
    ]


def test_nights_alone_move_to_the_gpu() -> None:
    plan = all_on_gpu(read_plan(SHIPPED_PLAN))
    assert [each.work_pool.name for each in plan.deployments] == ["gpu", "cpu", "cpu"]
    assert plan.pools == ("cpu", "gpu")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("timezone: UTC", "timezone: Mars/Olympus", r"0\.timezone: .*time zone"),
        ("concurrency_limit:", "concurency_limit:", "concurency_limit"),
        ("limit: 1", "limit: 0", "limit"),
        ("ENQUEUE", "QUEUE", "collision_strategy"),
        ("flows.nightly.nightly", "flows/nightly.py:nightly", "entrypoint"),
        ("name: ingest-hourly", "name: nightly", "names that differ"),
        ("deployments:", "deployments: [", "cannot read"),
    ],
)
def test_a_wrong_plan_is_refused_by_its_key(tmp_path: Path, old: str, new: str, named: str) -> None:
    path = tmp_path / "prefect.yaml"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(SettingsError, match=named):
        read_plan(path)


def test_a_plan_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        read_plan(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (
            '"0 12 * * 0"',
            '"0 25 * * 0"',
            "'0 25 \\* \\* 0' is no cron .*schedule weekly of .* hous",
        ),
        ("flows.nightly.nightly", "flows.nightly.no_flow", "no_flow.* is no flow.*nt nightly"),
        ("flows.nightly.nightly", "flows.none.none", "flows.none.none is no flow"),
        ("flows.nightly.nightly", "flows.nightly.date", "flows.nightly.date is no flow"),
    ],
)
def test_a_plan_that_is_wrong_anywhere_is_refused_before_anything_is_applied(
    tmp_path: Path, old: str, new: str, named: str
) -> None:
    from tasks.operate.applying import Where, apply_plan

    path = tmp_path / "prefect.yaml"
    path.write_text(TEXT.replace(old, new, 1))
    client: Any = None  # nobody is asked, and nobody told
    with pytest.raises(SettingsError, match=f"(?s){named}"):
        apply_plan(client, read_plan(path), Where(tmp_path, {}))

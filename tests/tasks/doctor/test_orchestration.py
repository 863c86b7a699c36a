"""What doctor says of a real Prefect server, and of what is deployed there."""

from pathlib import Path

import pytest

from tasks.doctor.examine import examine
from tasks.operate.plan import SHIPPED_PLAN, all_on_gpu, read_plan
from tests.flows.servers import at
from tests.scenarios.nights import Place
from tests.tasks.doctor.plants import examined

pytestmark = pytest.mark.prefect


def test_a_pool_without_a_worker_is_found_on_a_real_server(
    one_night: Place, prefect_api: str
) -> None:
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate

    from flows.nightly import nightly

    def told() -> list[tuple[str, str]]:
        found = examined(one_night, ["orchestration"])
        return [(each.verdict, each.fix) for each in found if each.check == "deployments"]

    with at(prefect_api):
        with get_client(sync_client=True) as client:
            assert told() == [("ok", "")]  # nothing is deployed
            flow_id = client.create_flow(nightly)
            client.create_work_pool(WorkPoolCreate(name="cpu", type="process"))
            client.create_deployment(
                flow_id, "nightly", work_pool_name="cpu", entrypoint="flows/nightly.py:nightly"
            )
            assert ("wrong", "prefect worker start --pool cpu") in told()
            client.request(
                "POST",
                "/work_pools/{work_pool_name}/workers/heartbeat",
                path_params={"work_pool_name": "cpu"},
                json={"name": "one", "heartbeat_interval_seconds": 30},
            )
            assert {verdict for verdict, _ in told()} == {"ok"}
            client.update_work_pool("cpu", WorkPoolUpdate(is_paused=True))
            assert ("wrong", "prefect work-pool resume cpu") in told()
            for each in client.read_deployments():
                client.delete_deployment(each.id)
        found = examined(one_night, ["orchestration"])
        versions = [each for each in found if each.check == "prefect server"]
        assert [each.verdict for each in versions] == ["ok"]


def test_what_is_deployed_is_compared_with_the_plan(
    one_night: Place, prefect_api: str, tmp_path: Path
) -> None:
    from tasks.operate.applying import Where, apply_plan, the_server

    plan = tmp_path / "prefect.yaml"
    plan.write_text(SHIPPED_PLAN.read_text())

    def told() -> list[tuple[str, str, str]]:
        shop = (one_night.settings, None, one_night.landing, one_night.lake)
        found = examine(*shop, rooms=["orchestration"], plan=plan)
        return [(f.verdict, f.found, f.fix) for f in found if f.check == "as planned"]

    with at(prefect_api):
        assert told() == [("ok", "nothing is deployed", "")]
        with the_server() as client:
            planned = read_plan(plan)
            few = planned.model_copy(update={"deployments": planned.deployments[:2]})
            apply_plan(client, all_on_gpu(few), Where(tmp_path, {"lake": "elsewhere"}))
            nightly, hourly, weekly = told()
            assert nightly == ("ok", "nightly/nightly is as planned", "")
            assert hourly[0] == "ok"
            fix = f"nightrank deploy --file {plan}"
            name = "housekeeping-weekly/housekeeping-weekly"
            assert weekly == ("warning", f"{name} is not deployed", fix)

            text = plan.read_text().replace("30 3 * * *", "45 4 * * *")
            plan.write_text(text.replace("[nightrank, ingest]", "[nightrank, hours]"))
            nightly, hourly, weekly = told()
            assert (nightly[0], nightly[2]) == ("warning", f"{fix} --gpu")
            assert "other schedules: [('nightly', '30 3 * * *', 'UTC', True)] and not" in nightly[1]
            assert (hourly[0], hourly[2]) == ("warning", fix)
            assert "tags: ['ingest', 'nightrank'] and not ['hours', 'nightrank']" in hourly[1]
            for each in client.read_deployments():
                client.delete_deployment(each.id)

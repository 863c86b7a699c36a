"""Nights by themselves: deploy, up, housekeeping."""

import argparse
import os
from pathlib import Path

from flows.commands.arguments import Commands, add_shop, the_shop
from flows.commands.nights import prepare_prefect
from tasks.places import place_of
from tasks.report.terminal import Terminal


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    deploy = commands.add_parser("deploy", help="give schedules and alerts to a Prefect server")
    _add_plan(deploy)
    deploy.set_defaults(command=_deploy)

    up = commands.add_parser("up", help="run it all on this machine: server, worker, schedules")
    up.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    up.add_argument("--port", type=int, default=4200, help="port to listen at (4200)")
    _add_plan(up)
    up.set_defaults(command=_up)

    chores = commands.add_parser("housekeeping", help="compact, vacuum and drop what is old")
    add_shop(chores)
    chores.set_defaults(command=_housekeeping)


def _add_plan(command: argparse.ArgumentParser) -> None:
    command.add_argument("--file", type=Path, help="schedules (deployments/prefect.yaml)")
    command.add_argument("--gpu", action="store_true", help="nights run in the work pool gpu")
    add_shop(command)


def _deploy(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.operate.plan import all_on_gpu, read_plan

    plan = read_plan(arguments.file)
    shop = the_shop(arguments)
    prepare_prefect()
    # Prefect costs a second to import, which other commands need not pay.
    from tasks.operate.applying import Where, apply_plan, the_server
    from tasks.operate.automations import apply_alerts, refuse_untellable

    where = Where(Path.cwd(), _told(arguments))
    refuse_untellable(shop.settings.alerts)  # before anything is applied, as a wrong plan is
    with the_server() as client:
        applied = apply_plan(client, all_on_gpu(plan) if arguments.gpu else plan, where)
        applied += apply_alerts(client, shop.settings.alerts)
    for each in applied:
        if each.became != "as it was":
            terminal.say(f"{each.kind} {each.name}: {each.became}")
    n_same = sum(each.became == "as it was" for each in applied)
    terminal.say(f"{n_same} of {len(applied)} were as they are to be")
    return 0


def _told(arguments: argparse.Namespace) -> dict[str, str | None]:
    """What runs are told of the shop: what was said here, as absolute paths."""
    told: dict[str, str | None] = {}
    for name in ("settings", "landing", "lake"):
        said: str | Path | None = getattr(arguments, name)
        told[name] = None if said is None else str(place_of(said).absolute())
    mapping: str | None = arguments.mapping
    is_path = mapping is not None and mapping.endswith(".toml")
    told["mapping"] = str(Path(mapping).absolute()) if mapping and is_path else mapping
    return told


def _up(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.backfill import deaths
    from tasks.operate.machine import Machine, prefect_home, up
    from tasks.operate.plan import all_on_gpu, read_plan
    from tasks.running import note_deaths

    plan = read_plan(arguments.file)
    shop = the_shop(arguments)  # what is wrong with it is told before anything is started
    plan = all_on_gpu(plan) if arguments.gpu else plan

    def find_the_dead() -> list[str]:
        died = [f"died, and noted so: {each}" for each in note_deaths(shop)]
        return died + deaths.note_deaths(shop.lake)

    machine = Machine(
        host=arguments.host,
        port=arguments.port,
        folder=prefect_home() / "nightrank",
        pools=plan.pools,
        deploy=_as_arguments(arguments),
        say=terminal.say,
        bury=find_the_dead,
    )
    prepare_prefect()
    os.environ["PREFECT_API_URL"] = machine.api
    return up(machine)


def _as_arguments(arguments: argparse.Namespace) -> list[str]:
    """The same arguments for nightrank deploy."""
    names = ("file", "settings", "mapping", "landing", "lake")
    given = [(f"--{name}", getattr(arguments, name)) for name in names]
    found = [text for name, value in given if value is not None for text in (name, str(value))]
    return [*found, "--gpu"] if arguments.gpu else found


def _housekeeping(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.housekeeping import housekeep
    from tasks.report.chores import show

    show(terminal, list(housekeep(the_shop(arguments))))
    return 0

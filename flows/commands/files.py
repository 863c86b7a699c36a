"""What has landed: sample, quarantine, withdraw."""

import argparse
from pathlib import Path

from flows.commands.arguments import Commands, add_shop, the_shop
from tasks.report.terminal import Terminal


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    sample = commands.add_parser("sample", help="write a simulated shop into landing/ and truth/")
    sample.add_argument("--days", type=int, default=21)
    sample.add_argument("--users", type=int, default=2000)
    sample.add_argument("--items", type=int, default=800)
    sample.add_argument("--seed", type=int, default=1)
    sample.add_argument("--root", type=Path, default=Path(), help="folder of landing/ and truth/")
    sample.set_defaults(command=_sample)

    quarantine = commands.add_parser("quarantine", help="why records did not fit, and how many")
    quarantine.add_argument(
        "--replay", action="store_true", help="read their files again, as the mapping is now"
    )
    quarantine.add_argument("--format", choices=("table", "csv", "json"), default="table")
    add_shop(quarantine)
    quarantine.set_defaults(command=_quarantine)

    withdraw = commands.add_parser("withdraw", help="take a wrong delivery back")
    withdraw.add_argument("file", help="path below the landing folder, or ops.files.file_id")
    add_shop(withdraw)
    withdraw.set_defaults(command=_withdraw)


def _sample(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.sample import ShopSettings, write_sample

    settings = ShopSettings(
        n_days=arguments.days,
        n_users=arguments.users,
        n_items=arguments.items,
        seed=arguments.seed,
    )
    with terminal.bar("sample shop, days") as moved:
        counts = write_sample(settings, arguments.root, moved)
    terminal.say(
        f"{arguments.root / 'landing'}: {counts.n_files} files, {counts.n_bytes / 2**20:.1f} MiB, "
        f"{counts.n_events:,} events, {counts.n_impressions:,} impressions"
    )
    return 0


def _quarantine(arguments: argparse.Namespace, terminal: Terminal) -> int:
    import sql
    from tasks.ingest.mend import replay
    from tasks.night import new_run_id, refresh
    from tasks.query import ask

    shop = the_shop(arguments)
    if arguments.replay:
        files = replay(shop, new_run_id())
        terminal.rereads(files)
        if any(each.n_now < each.n_before for each in files):
            terminal.say("nightrank status lists what that made stale")
    refresh(shop)
    with ask(shop.lake.root, sql.read("queries/quarantine_reasons")) as answer:
        terminal.answer(answer, arguments.format)
    return 0


def _withdraw(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.ingest.mend import withdraw
    from tasks.night import new_run_id, refresh

    shop = the_shop(arguments)
    terminal.withdrawals(withdraw(shop, arguments.file, new_run_id()))
    refresh(shop)
    terminal.say("nightrank status lists what that made stale; nightrank run mends it")
    return 0

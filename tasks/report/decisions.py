"""What a person reads of decisions about what is served."""

from typing import TYPE_CHECKING

import sql
from tasks.errors import UsageError
from tasks.lake.literals import render
from tasks.report.terminal import Terminal

if TYPE_CHECKING:
    from tasks.serve.holds import Hold
    from tasks.serve.rollback import Rollback


def question(last: int) -> str:
    """The SELECT of the last so many decisions. Raises UsageError where that is none."""
    if last < 1:
        raise UsageError(
            f"--last {last} asks for no decision",
            where="nightrank history",
            unchanged="nothing was written",
            fix="name a number from 1 on",
        )
    return render(sql.read("queries/history"), {"last": last})


def tell_rollback(terminal: Terminal, done: "Rollback") -> None:
    """What is served now, and what was; whether later nights publish."""
    now, before = done.now, done.before
    size = f"{now.n_users:,} users, {now.n_rows:,} rows, model {now.model}"
    if not done.is_old:
        terminal.say(f"{now.ds}: served again, in place of {before.ds}: {now.release_id} ({size})")
        terminal.say(f"by {now.who}: {now.reason}")
    elif now.action == "rollback":
        terminal.say(
            f"nothing to do: {now.who} rolled back to {now.ds} already at "
            f"{now.decided_at:%Y-%m-%d %H:%M} UTC: {now.reason}"
        )
        terminal.say("to serve another: --to DATE; nightrank history lists them")
    else:
        terminal.say(f"nothing to do: {now.ds} is what is served: {now.release_id} ({size})")
    if done.hold is not None:
        terminal.say(f"later nights do not publish: {done.hold.sentence}")
        terminal.say('they do again after: nightrank rollback --resume --reason "why"')
    else:
        terminal.say("later nights publish as they are judged")


def tell_resumed(terminal: Terminal, stood: "Hold") -> None:
    """That nights publish again, and what held them back."""
    terminal.say(f"nights publish again. It was over that {stood.sentence}")
    terminal.say("a night that was kept back is judged anew when it is run again: nightrank run")

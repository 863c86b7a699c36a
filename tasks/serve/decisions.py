"""Decide whether a release is served: by the gate, or by a person who says why."""

import getpass
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date

import sql
from tasks.errors import UsageError
from tasks.estimate.comparison import Lists
from tasks.lake.session import Session, session
from tasks.lake.tables import scan
from tasks.records import TableVersion
from tasks.serve.gate import Facts, Verdict, verdicts
from tasks.serve.holds import Hold, holds, standing
from tasks.serve.publications import (
    SERVING,
    Publication,
    deciding,
    history,
    note_once,
    served,
    show,
    time_after,
)
from tasks.shop import Shop

NO_ROWS = Facts(n_users=0, n_rows=0, n_items=0, top_item_share=0.0)


@dataclass(frozen=True)
class Decision:
    """What became of a release, and why in one sentence."""

    action: str
    reason: str


def decided(shop: Shop, release: str) -> Publication | None:
    """The last decision about a release, if there was one."""
    found = [each for each in _history(shop) if each.release_id == release]
    return found[-1] if found else None


def stands(shop: Shop, before: Publication) -> bool:
    """Whether the last decision about a release is kept when its night is run again.

    Not where another release of the night took its place by itself, nor where publishing was held
    back then and goes on now.
    """
    with session(shop.lake, shop.settings.compute) as s:
        serving, found = served(history(s)), holds(s)
    was_replaced = (
        before.action in SERVING
        and serving is not None
        and serving.action != "rollback"
        and serving.ds == before.ds
        and serving.release_id != before.release_id
    )
    was_held_back = before.action == "hold" and standing(found, before.decided_at) is not None
    return not was_replaced and not (was_held_back and standing(found) is None)


def rolled_back_since(shop: Shop, release: str) -> Publication | None:
    """The rollback that took the place of a release, if that is what is served."""
    serving = served(_history(shop))
    is_another = serving is not None and serving.release_id != release
    return serving if is_another and serving is not None and serving.action == "rollback" else None


def serves_nothing(shop: Shop) -> bool:
    """Whether no release is served yet."""
    return served(_history(shop)) is None


def champion(shop: Shop, ds: date) -> Lists | None:
    """The trial lists of what is served, if a release of `ds` may take its place."""
    serving = served(_history(shop))
    if serving is None or serving.ds > ds:
        return None
    return Lists(serving.release_id, serving.ds, serving.model)


def publish(
    shop: Shop,
    ds: date,
    release: str,
    model: str,
    run_id: str,
    *,
    left_out: Sequence[str] = (),
    who: str = "nightly",
    night_is_ours: Callable[[], None] = lambda: None,
) -> tuple[Decision, list[TableVersion]]:
    """Judge a release, note the verdicts and the decision, and serve it if it is to be served.

    `left_out` tells of models that the night went on without. `night_is_ours` raises where the
    night is another run's by now; asked before anything is noted.
    """
    with deciding(shop.lake, f"publishing the night of {ds}", night_is_ours) as still_ours:
        before = decided(shop, release)
        if before is not None and stands(shop, before):
            show(shop.lake, shop.settings.compute, still_ours)
            return Decision(before.action, before.reason), []
        facts = _facts(shop, release)
        decision, written = _judge(shop, ds, release, model, facts)
        made = Publication(
            release_id=release,
            ds=ds,
            action=decision.action,
            reason="; ".join([decision.reason, *left_out]),
            who=who,
            decided_at=time_after(each.decided_at for each in _history(shop)),
            model=model,
            n_users=facts.n_users,
            n_rows=facts.n_rows,
            run_id=run_id,
        )
        still_ours()
        noted = note_once(shop.lake, before, made)
        show(shop.lake, shop.settings.compute, still_ours)
        return Decision(noted.action, noted.reason), [written]


def _judge(
    shop: Shop, ds: date, release: str, model: str, new: Facts
) -> tuple[Decision, TableVersion]:
    """The decision about a release, its verdicts noted."""
    serving = served(_history(shop))
    old = None if serving is None else _facts(shop, serving.release_id)
    is_older = serving is not None and serving.ds > ds
    found = [] if is_older else _judged(shop, ds, release, model, new, old)
    rows = [{"release_id": release, "ds": ds, **vars(each)} for each in found]
    written = shop.lake.put("serve.verdicts", {"ds": ds, "release_id": release}, rows)
    return _decide(ds, new, serving, found), written


def _history(shop: Shop) -> list[Publication]:
    with session(shop.lake, shop.settings.compute) as s:
        return history(s)


def _facts(shop: Shop, release: str) -> Facts:
    """How long, wide and concentrated the lists of a release are."""
    with session(shop.lake, shop.settings.compute) as s:
        _read(s, "serve.recommendations", release)
        columns = ", ".join(Facts.__dataclass_fields__)
        found = s.rows(f"SELECT {columns} FROM ({sql.read('queries/release_facts')})")
    return Facts(*found[0]) if found else NO_ROWS


def _read(s: Session, name: str, release: str) -> None:
    pinned = s.lake.pin(name)
    s.view(name, scan(pinned.table, pinned.files(lambda found: found["release_id"] == release)))


def _judged(
    shop: Shop, ds: date, release: str, model: str, facts: Facts, served_facts: Facts | None
) -> list[Verdict]:
    pinned = shop.lake.pin("serve.comparisons")
    rows = shop.lake.rows(pinned, {"ds": ds, "release_id": release}).to_pylist()
    of_candidate = [row for row in rows if row["is_candidate"]]
    stands_in = model != shop.settings.publish.model
    found = verdicts(shop.settings, facts, served_facts, of_candidate, stands_in=stands_in)
    with session(shop.lake, shop.settings.compute) as s:
        held = standing(holds(s))
    return found if held is None else [_of_a_person(held), *found]


def _of_a_person(held: Hold) -> Verdict:
    return Verdict("held back", None, None, "hold", held.sentence)


def _decide(
    ds: date, facts: Facts, serving: Publication | None, found: Sequence[Verdict]
) -> Decision:
    if not facts.n_rows:
        return Decision("hold", f"the list of {ds} is empty")
    size = f"{facts.n_users:,} users, {facts.n_rows:,} rows"
    if serving is None:
        return Decision("publish", f"the first night: {size}; nothing is served to compare it with")
    if serving.ds > ds:
        return Decision("backfill", f"{ds} is older than {serving.ds}, which stays served")
    held = [each for each in found if each.verdict == "hold"]
    if held:
        more = f" (and {len(held) - 1} more rules hold it)" if len(held) > 1 else ""
        return Decision("hold", f"{held[0].sentence}{more}; {serving.ds} stays served")
    said = "; ".join(each.sentence for each in found if each.rule in ("value", "time split"))
    return Decision("publish", f"{size}; {said}")


def force(shop: Shop, reason: str, ds: date | None = None) -> Publication:
    """Serve the newest release that the gate held (of `ds`); returns what is served then.

    Safe to run again: a release that is served by force is not forced twice. Raises UsageError
    where no night is held, its list is gone, a newer one is served, no reason is given, or a person
    holds publishing back.
    """
    with deciding(shop.lake, "publishing by force") as still_ours:
        return _force(shop, reason, ds, still_ours)


def _force(shop: Shop, reason: str, ds: date | None, still_ours: Callable[[], None]) -> Publication:
    decisions = _history(shop)
    serving = served(decisions)
    last = {each.release_id: each for each in decisions if ds in (None, each.ds)}
    held = max(
        (each for each in last.values() if _is_held(each, serving)),
        key=lambda each: (each.ds, each.decided_at),
        default=None,
    )
    if not reason.strip():
        raise _unforced("a release is not forced without a reason", 'give one: --force "reason"')
    if held is None:
        raise _unforced(f"no night {'' if ds is None else f'of {ds} '}is held", "nightrank status")
    if not held.n_rows:
        raise _unforced(f"the list of {held.ds} is empty", "mend its data and run the night again")
    if serving is not None and serving.ds > held.ds:
        raise _unforced(f"{serving.ds} is served, which is newer than {held.ds}", "nightrank run")
    if held.action == "force":
        show(shop.lake, shop.settings.compute, still_ours)
        return held
    with session(shop.lake, shop.settings.compute) as s:
        hold = standing(holds(s))
    if hold is not None:
        fix = 'nightrank rollback --resume --reason "why it may go on", then force it'
        raise _unforced(hold.sentence, fix)
    if not _facts(shop, held.release_id).n_rows:
        fix = f"restore {shop.lake.path('serve.recommendations')} from a copy"
        raise _unforced(f"the list of {held.ds} is gone", fix)
    who = getpass.getuser()
    forced = replace(
        held,
        action="force",
        reason=reason.strip(),
        who=who,
        decided_at=time_after(each.decided_at for each in decisions),
    )
    still_ours()
    noted = note_once(shop.lake, held, forced)
    show(shop.lake, shop.settings.compute, still_ours)
    return noted


def _is_held(last: Publication, serving: Publication | None) -> bool:
    """By the last decision about a release: held, or forced and still what is served."""
    if last.action == "force":
        return serving is not None and serving.release_id == last.release_id
    return last.action == "hold"


def _unforced(what: str, fix: str) -> UsageError:
    return UsageError(
        what,
        where="nightrank publish --force",
        unchanged="what was served stays served",
        fix=fix,
    )

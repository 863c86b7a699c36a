"""Serve again what was served before, hold publishing back, and let it go on."""

import getpass
from dataclasses import dataclass, replace

from tasks.errors import UsageError
from tasks.lake.session import Session, session
from tasks.serve.holds import HOLD, RESUME, Hold, holds, note_hold, standing
from tasks.serve.publications import (
    SERVING,
    Publication,
    deciding,
    history,
    list_is_whole,
    make_ready,
    note,
    point,
    served,
    show,
    time_after,
)
from tasks.settings import parse_day
from tasks.shop import Shop


@dataclass(frozen=True)
class Rollback:
    """What is served now, what was served before, and the hold that stands.

    `is_old`: nothing was to be done, it was served already.
    """

    now: Publication
    before: Publication
    hold: Hold | None
    is_old: bool


def rollback(shop: Shop, reason: str, to: str | None = None, *, hold: bool = False) -> Rollback:
    """Serve the release that was served before, or the last of `to`: a date, or a release's name.

    Without `to`, a rollback that stands is not followed by another: run twice, it goes back once.
    With `hold`, later nights do not publish until `resume`. The list is made ready before it is
    decided: readers see it as soon as the decision is noted. Raises UsageError where there is
    nothing to go back to, the list is gone, or no reason is given.
    """
    reason = _given(reason, "nothing is rolled back without a reason")
    lake, compute = shop.lake, shop.settings.compute
    with deciding(lake, "rolling back") as still_ours, session(lake, compute) as s:
        decisions = history(s)
        before, target = _served_and_target(decisions, to)
        is_old = target.release_id == before.release_id
        if not is_old:
            _refuse_what_is_gone(shop, target)
            make_ready(s, target, still_ours)
        still_ours()
        held = _hold_back(s, target, reason) if hold else standing(holds(s))
        if is_old:
            show(lake, compute, still_ours)  # one that was killed may have come no further
            return Rollback(before, before, held, is_old)
        now = _decided(target, reason, decisions)
        note(lake, now)
        point(lake, now.release_id)
        return Rollback(now, before, held, is_old)


def resume(shop: Shop, reason: str) -> Hold:
    """Let nights publish again; the hold that stood. Raises UsageError where none stands."""
    reason = _given(reason, "publishing does not go on without a reason")
    with (
        deciding(shop.lake, "letting publishing go on") as still_ours,
        session(shop.lake, shop.settings.compute) as s,
    ):
        found = holds(s)
        stood = standing(found)
        if stood is None:
            raise _refused("nobody holds publishing back", "nothing; nights publish as they are")
        still_ours()
        who, at = getpass.getuser(), time_after([each.decided_at for each in found])
        note_hold(shop.lake, replace(stood, action=RESUME, reason=reason, who=who, decided_at=at))
        return stood


def _served_and_target(
    decisions: list[Publication], to: str | None
) -> tuple[Publication, Publication]:
    serving = served(decisions)
    if serving is None:
        raise _refused("nothing is served yet", "nightrank run")
    if to is not None:
        return serving, _named(decisions, to)
    if serving.action == "rollback":
        return serving, serving
    shown = [each for each in decisions if each.action in SERVING]
    others = [each for each in shown if each.release_id != serving.release_id]
    if not others:
        raise _refused(f"nothing was served before the night of {serving.ds}", "nightrank history")
    return serving, others[-1]


def _named(decisions: list[Publication], to: str) -> Publication:
    """The last release of a date that was served, else the last that was kept aside; or by name."""
    of = [each for each in decisions if each.release_id == to]
    if not of:
        ds = parse_day(to, where="--to")
        of = [each for each in decisions if each.ds == ds]
    for actions in (SERVING, ("backfill",)):
        found = [each for each in of if each.action in actions]
        if found:
            return found[-1]
    if of:
        fix = 'nightrank publish --force "why" serves a release that was held'
        raise _refused(f"no release of {to} was ever served or kept aside: it was held", fix)
    raise _refused(f"there is no release of {to}", "nightrank history lists what there is")


def _refuse_what_is_gone(shop: Shop, target: Publication) -> None:
    if not list_is_whole(shop.lake, target):
        fix = (
            f"restore {shop.lake.path('serve.recommendations')} from a copy, or name another: --to"
        )
        raise _refused(f"the list of {target.release_id} is gone, or not whole", fix)


def _decided(target: Publication, reason: str, decisions: list[Publication]) -> Publication:
    at = time_after([each.decided_at for each in decisions])
    return replace(target, action="rollback", reason=reason, who=getpass.getuser(), decided_at=at)


def _hold_back(s: Session, target: Publication, reason: str) -> Hold:
    """Note a hold, unless one stands; a rollback is noted after it, so it is never without it."""
    found = holds(s)
    stands = standing(found)
    if stands is not None:
        return stands
    at = time_after([each.decided_at for each in found])
    made = Hold(HOLD, reason, getpass.getuser(), at, target.release_id, target.ds)
    note_hold(s.lake, made)
    return made


def _given(reason: str, otherwise: str) -> str:
    if not reason.strip():
        raise _refused(otherwise, 'give one: --reason "why"')
    return reason.strip()


def _refused(what: str, fix: str) -> UsageError:
    return UsageError(
        what,
        where="nightrank rollback",
        unchanged="what was served stays served",
        fix=fix,
    )

"""The last pass over a plan, in date order: each release is judged, and swapped in or kept aside.

It is compared with the release that its date has, or else with that of the newest date before, by
the rules of every night's gate. Swapped in, it is the release of its date in the history
(serve.publications, action backfill): what a rollback to that date would serve. What is served
stays served, whatever its date.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from expectations.catalogue import catalogue
from tasks import steps
from tasks.backfill.apart import apart, found
from tasks.backfill.crossing import cross_over, facts_of, overlap_of
from tasks.backfill.ledger import Entry
from tasks.backfill.plan import Plan, slot_folder
from tasks.estimate import propensities
from tasks.estimate.comparison import Lists, compare
from tasks.lake.session import session
from tasks.lake.tables import Partition
from tasks.night import Night
from tasks.serve.gate import Facts, Verdict, verdicts
from tasks.serve.publications import (
    BY_BACKFILL,
    Publication,
    deciding,
    history,
    is_of_its_date,
    note,
    time_after,
)
from tasks.shop import Shop, name_positives, parameters
from tasks.transform import build_increments

Known = dict[str, Any]  # columns of ops.backfills


def judge(shop: Shop, plan: Plan, entry: Entry) -> Known:
    """Compare and judge the release of a night that is done; returns what is known then.

    Safe to be killed and run again: nothing is decided twice.
    """
    assert entry.release_id is not None
    before = _release_before(_history(shop), entry)
    there = _there(shop, plan, entry)
    new = facts_of(shop.lake, shop.settings.compute, entry.release_id)
    old = None if before is None else facts_of(shop.lake, shop.settings.compute, before.release_id)
    told = _compared(shop, plan, entry, there, before) if before is not None else []
    found = _judged(shop, entry, new, old, told)
    rows = [{"release_id": entry.release_id, "ds": entry.ds, **vars(each)} for each in found]
    shop.lake.put("serve.verdicts", {"ds": entry.ds, "release_id": entry.release_id}, rows)
    outcome, verdict = _decided(plan, entry, new, before, found)
    if outcome == "swapped in":
        _swap_in(shop, plan, entry, new, verdict)
    return {
        "outcome": outcome,
        "verdict": verdict,
        **_beside(shop, entry, before, old),
        **_change(shop, told),
    }


def _history(shop: Shop) -> list[Publication]:
    with session(shop.lake, shop.settings.compute) as s:
        return history(s)


def _release_before(decisions: Sequence[Publication], entry: Entry) -> Publication | None:
    """The release of the date, or of the newest date before that has one."""
    others = [
        each
        for each in decisions
        if is_of_its_date(each) and each.ds <= entry.ds and each.release_id != entry.release_id
    ]
    return max(others, key=lambda each: (each.ds, each.decided_at), default=None)


def _there(shop: Shop, plan: Plan, entry: Entry) -> Shop:
    """The shop apart in which the night was made, where it sees all lists that were kept."""
    folder = slot_folder(shop.lake, plan, entry.slot or 1)
    there = apart(shop, plan.pins, plan.as_of, entry.ds, folder)
    assert there.lender is not None
    trials = {"serve.trials": shop.lake.pin("serve.trials").version}
    lent = replace(there.lender, versions={**there.lender.versions, **trials})
    return replace(there, lender=lent)


def _compared(
    shop: Shop, plan: Plan, entry: Entry, there: Shop, before: Publication
) -> list[Known]:
    assert entry.release_id is not None
    assert entry.model is not None
    _lay_ground(there, entry)
    champion = Lists(before.release_id, before.ds, before.model)
    models = [name for name in there.settings.train.models if _has_trials(there, entry, name)]
    compare(there, entry.ds, entry.release_id, models, entry.model, champion)
    cross_over(there, shop.lake, entry.ds, entry.release_id, ["serve.comparisons"])
    pinned = shop.lake.pin("serve.comparisons")
    where: Partition = {"ds": entry.ds, "release_id": entry.release_id}
    rows: list[Known] = shop.lake.rows(pinned, where).to_pylist()
    return [row for row in rows if row["is_candidate"]]


def _has_trials(there: Shop, entry: Entry, model: str) -> bool:
    wanted = {"release_id": entry.release_id, "model": model}
    pinned = there.lake.pin("serve.trials")
    return bool(pinned.files(lambda each: all(each[key] == wanted[key] for key in wanted)))


def _lay_ground(there: Shop, entry: Entry) -> None:
    """What is compared by, as the night saw it: later nights of the folder may have moved it on."""
    if entry.ds not in there.lake.pin("train.holdout").days():  # the folder is another
        run_id = entry.run_id or ""
        night = Night(there, run_id, datetime.now(UTC), found(there, entry.ds), entry.ds)
        steps.build_features(night)
        return
    params, how = parameters(there, entry.ds), propensities.steps(there)
    with session(there.lake, there.settings.compute) as s:
        name_positives(s, there)
        for table in catalogue().values():
            if table.layer == "features" and table.kind == "increment":
                build_increments(s, table.name, params, how.get(table.name))


def _judged(
    shop: Shop, entry: Entry, new: Facts, old: Facts | None, told: Sequence[Known]
) -> list[Verdict]:
    stands_in = entry.model != shop.settings.publish.model
    return verdicts(shop.settings, new, old, told, stands_in=stands_in)


def _decided(
    plan: Plan, entry: Entry, new: Facts, before: Publication | None, found: Sequence[Verdict]
) -> tuple[str, str]:
    held = [each for each in found if each.verdict == "hold"]
    if not new.n_rows:
        return "kept aside", f"the list of {entry.ds} is empty"
    if plan.request.keeps_aside:
        return "kept aside", "the plan keeps its releases aside"
    if before is None:
        return "swapped in", "no date up to it has a release to compare it with"
    if held:
        more = f" (and {len(held) - 1} more rules hold it)" if len(held) > 1 else ""
        return "kept aside", f"{held[0].sentence}{more}; compared with {before.release_id}"
    said = [each.sentence for each in found if each.rule in ("value", "time split")]
    return "swapped in", "; ".join(said) or f"no rule holds it against {before.release_id}"


def _swap_in(shop: Shop, plan: Plan, entry: Entry, new: Facts, verdict: str) -> None:
    assert entry.release_id is not None
    what = f"swapping in {entry.ds} of backfill {plan.plan_id}"
    with deciding(shop.lake, what) as still_ours:
        decisions = _history(shop)
        of_date = [each for each in decisions if is_of_its_date(each) and each.ds == entry.ds]
        if of_date and of_date[-1].release_id == entry.release_id:
            return  # a run that was killed after it had noted it
        still_ours()
        decision = Publication(
            release_id=entry.release_id,
            ds=entry.ds,
            action="backfill",
            reason=f"as known {plan.as_of}: {verdict}",
            who=f"{BY_BACKFILL}{plan.plan_id}",
            decided_at=time_after([each.decided_at for each in decisions]),
            model=entry.model or "",
            n_users=new.n_users,
            n_rows=new.n_rows,
            run_id=entry.run_id or "",
        )
        note(shop.lake, decision)


def _beside(shop: Shop, entry: Entry, before: Publication | None, old: Facts | None) -> Known:
    """How much the lists have in common with those that the same date has had."""
    if before is None or old is None:
        return {}
    assert entry.release_id is not None
    known: Known = {"compared_with": before.release_id}
    known |= {"n_users_before": old.n_users, "n_items_before": old.n_items}
    overlap = overlap_of(shop.lake, shop.settings.compute, entry.release_id, before.release_id)
    return known | {"overlap": overlap}


def _change(shop: Shop, told: Sequence[Known]) -> Known:
    wanted = shop.settings.gate.estimator
    for row in told:
        if row["estimator"] == wanted and row["segment_kind"] == "all":
            return {key: row[key] for key in ("change", "lower", "upper")}
    return {}

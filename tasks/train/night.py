"""The training stage of a night: from train.examples to a kept model.

A model is trained up to the cut and measured on the holdout, the days after it; then it is fitted
again on all days for as many epochs as were best, and this one is kept. Where the settings weight
with propensities, the first knows those of items as of the cut, the second those of the night. One
half of the users with a holdout choose the best epoch, the metrics are those of the other half.
They count users and items known before the cut; a pair that was in the training days is not looked
for again unless the shop sells the same item twice.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np

import sql
from expectations.catalogue import catalogue
from models.registry import load
from tasks.estimate import examination
from tasks.estimate.quality import Quality
from tasks.lake.literals import render
from tasks.lake.session import Session, session
from tasks.lake.warehouse import checkpoints_path, models_path
from tasks.records import TableVersion
from tasks.scratch import scratch
from tasks.shop import Parameters, Shop, name_positives, parameters, with_cut
from tasks.train import measuring, registry, versions
from tasks.train.arrays import (
    Interactions,
    build_interactions,
    item_mask,
    pairs_to_csr,
)
from tasks.train.checkpoints import Checkpoints
from tasks.train.histories import TABLE, read_histories
from tasks.train.lists import ids, write_trials
from tasks.train.loop import Holdout, Trained, reads_propensities, resolved, train
from tasks.train.registry import SavedModel
from tasks.train.run import Step, overran
from tasks.train.scoring import best_items

Moved = Callable[[float, float, str], None]
Start = tuple[Trained, str]  # a kept model and its version
_EXAMPLES = "SELECT user_id, item_id, weight FROM train.examples"
_TRAINING = f"{_EXAMPLES} UNION ALL SELECT user_id, item_id, weight FROM train.holdout"
_ITEMS = "features.item_propensities"
_PROPENSITIES = f"SELECT item_id, p_exposed AS propensity FROM {_ITEMS} ORDER BY item_id"


def train_model(
    shop: Shop, ds: date, release: str, name: str, moved: Moved, until: float | None = None
) -> tuple[SavedModel, list[TableVersion]]:
    """Train, measure, fit again on all days, keep. Raises TrainingError.

    The lists of the model of the time split are kept too, for `release`: serve.trials. Where its
    time is over (`until`, of time.monotonic()) it does not begin, or ends between two steps of a
    training by gradient, with an OverrunError.
    """
    started = time.monotonic()
    if until is not None and started >= until:
        overran("before it began", name)
    with (
        session(shop.lake, shop.settings.compute) as s,
        scratch("train") as work,
    ):
        for table in ("train.examples", "train.holdout", "serve.eligible_items"):
            s.read(table, since=ds, upto=ds)
        s.read("features.behaviours_daily", upto=ds)
        name_positives(s, shop)
        params = with_cut(s, parameters(shop, ds))
        cut = params["cut"]
        assert isinstance(cut, date)
        weighs = reads_propensities(name, shop.settings.train.configs.get(name, {}))
        known = _propensities_at(s, {**params, "ds": cut}, ds) if weighs else None
        before = _interactions(s, _EXAMPLES, known, work / "a")
        before = _with_sequences(s, shop, ds, name, before, work / "a", upto=cut)
        holdout = _holdout(s, shop, before, work / "b")
        choosing, judging = _halves(holdout)
        starts = _starts(shop, ds, name)
        first = _fit(shop, name, before, choosing, None, moved, starts[0], until)
        metrics = _measure(s, shop, ds, before, first, judging, work / "d")
        trials = write_trials(shop, s, ds, release, first)
        last, start = first, starts[0]
        # its days are learnt from too where they hold nothing that could be found
        if s.value("SELECT count(*) FROM train.holdout"):
            known = _propensities_at(s, params, ds) if weighs else None
            everything = _interactions(s, _TRAINING, known, work / "c")
            everything = _with_sequences(s, shop, ds, name, everything, work / "c", upto=ds)
            start = starts[1]
            best = first.best_epoch or None
            last = _fit(shop, name, everything, None, best, moved, start, until)
        saved = registry.save(last, models_path(shop.lake))
        pins = [str(pinned) for pinned in s.pins.values()]
    kept = versions.Kept(
        saved=saved,
        trained=last,
        pins=pins,
        qualities=metrics,
        device=resolved(shop.settings.train.device),
        seconds=time.monotonic() - started,
        began_at=start[1] if start is not None and last.is_warm_start else None,
    )
    written = [
        measuring.write(shop, ds, saved, metrics),
        _write_epochs(shop, ds, first),
        versions.note(shop.lake, ds, release, kept),
    ]
    return saved, [*written, *trials]


def _starts(shop: Shop, ds: date, name: str) -> tuple[Start | None, Start | None]:
    """Where the model of the time split and that of all days begin, if not at random weights.

    A version that was kept on a day has learnt from that day: what is measured after the cut must
    not have begun at one of a later day than the cut.
    """
    if not shop.settings.train.warm_start:
        return None, None
    cut = ds - timedelta(days=shop.mapping.behaviours.holdout_days)
    of_split, of_all = (
        versions.load_last(shop.lake, name, upto) for upto in (cut, ds - timedelta(days=1))
    )
    return of_split, of_all


def _propensities_at(s: Session, params: Parameters, ds: date) -> str:
    """The SELECT of the propensities of items as of `$ds`, which may have had no night."""
    day, catalogue_ds = params["ds"], params["catalogue_ds"]
    assert isinstance(day, date)
    if day == ds:
        s.read(_ITEMS, since=ds, upto=ds)
        return _PROPENSITIES
    assert isinstance(catalogue_ds, date)
    for name in catalogue()[_ITEMS].reads:
        s.read(name, upto=max(day, catalogue_ds))
    if params["estimator"] == "examination":
        examination.show(s, params)
    return _PROPENSITIES.replace(_ITEMS, f"({render(sql.read_table(_ITEMS), params)})")


def _interactions(s: Session, select: str, known: str | None, work: Path) -> Interactions:
    # One stream at a time is all that a connection can have open: the smaller is read whole.
    propensities = None if known is None else s.stream(known).read_all()
    positives = s.stream(f"{select} ORDER BY user_id, item_id")
    return build_interactions(positives, work, propensities=propensities)


def _with_sequences(
    s: Session, shop: Shop, ds: date, name: str, data: Interactions, work: Path, *, upto: date
) -> Interactions:
    """The data with the steps of its users up to a day, if the model reads them."""
    if TABLE not in load(name).reads:
        return data
    found = read_histories(s, shop, ds, data.users, data.items, work, upto=upto)
    return replace(data, sequences=found)


def _holdout(s: Session, shop: Shop, data: Interactions, work: Path) -> Holdout | None:
    """What the time split looks for; None where it holds nothing that could be found."""
    repurchase = shop.mapping.behaviours.repurchase
    wanted = "true" if repurchase else "is_new"
    eligible = ids(s, "SELECT item_id FROM serve.eligible_items ORDER BY item_id")
    pairs = s.stream(f"SELECT user_id, item_id FROM train.holdout WHERE {wanted} ORDER BY ALL")
    relevant = pairs_to_csr(pairs, data.users, data.items, work)
    if not len(relevant.indices):
        return None
    return Holdout(
        relevant=relevant,
        seen=None if repurchase else data.csr(),
        allowed=item_mask(eligible, data.items),
    )


def _halves(holdout: Holdout | None) -> tuple[Holdout | None, Holdout | None]:
    """Half of the users choose the best epoch, the other half measure it.

    The best of many epochs is better by luck on the users that chose it. One user does both.
    """
    if holdout is None:
        return None, None
    users = np.flatnonzero(holdout.relevant.sizes())
    if len(users) < 2:
        return holdout, holdout
    choosing, judging = (
        replace(holdout, relevant=holdout.relevant.only(users[start::2])) for start in (0, 1)
    )
    return choosing, judging


def _fit(
    shop: Shop,
    name: str,
    data: Interactions,
    holdout: Holdout | None,
    epochs: int | None,
    moved: Moved,
    start: Start | None,
    until: float | None,
) -> Trained:
    settings = shop.settings.train
    purpose = "time split" if holdout is not None else "all days"
    return train(
        name,
        settings.configs.get(name, {}),
        data,
        seed=settings.seed,
        device=settings.device,
        holdout=holdout,
        epochs=epochs,
        progress=lambda step: _tell(moved, purpose, step),
        checkpoints=Checkpoints(
            folder=checkpoints_path(shop.lake) / name,
            seconds=settings.checkpoint_seconds,
            steps=settings.checkpoint_steps,
            recipe=shop.recipe,
        ),
        start=None if start is None else start[0],
        until=until,
    )


def _tell(moved: Moved, purpose: str, step: Step) -> None:
    done = step.epoch - 1 + step.n_done / step.n_samples
    note = f"; {step.note}" if step.note else ""
    moved(done, step.n_epochs, f"{purpose}, epoch {step.epoch}, loss {step.loss:.4f}{note}")


def _measure(
    s: Session,
    shop: Shop,
    ds: date,
    data: Interactions,
    trained: Trained,
    holdout: Holdout | None,
    work: Path,
) -> list[Quality]:
    if holdout is None:
        return []
    rows = np.flatnonzero(holdout.relevant.sizes())
    lists = best_items(
        trained.model,
        rows,
        max(measuring.KS),
        seen=None if holdout.seen is None else holdout.seen.take(rows),
        allowed=holdout.allowed,
    )
    case = measuring.Case(data, holdout.relevant, lists.items)
    return measuring.measure(s, shop, ds, case, work)


def _write_epochs(shop: Shop, ds: date, trained: Trained) -> TableVersion:
    """How the model of the time split came about, pass by pass; no row for a closed form."""
    rows = [
        {
            "epoch": n + 1,
            "loss": loss,
            "ndcg": trained.ndcgs[n] if trained.ndcgs else None,
            "ess_share": trained.ess_shares[n],
            "n_parts": trained.n_parts[n],
            "is_best": n + 1 == trained.best_epoch,
            "ds": ds,
            "model": trained.name,
        }
        for n, loss in enumerate(trained.losses)
    ]
    return shop.lake.put("train.epochs", {"ds": ds, "model": trained.name}, rows)

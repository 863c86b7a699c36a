"""Measure lists that were made from what was known up to the cut against what followed it.

What the arrays of tasks/estimate/quality.py hold is read here from the night's tables: which pairs
count under which reading, which segment a pair is in, and what the catalogue says of the items.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

import sql
from tasks.estimate.quality import Quality, Segment, accuracies, list_qualities, readings
from tasks.estimate.ranking import Found, found
from tasks.lake.literals import render
from tasks.lake.session import Session
from tasks.records import TableVersion
from tasks.shop import Parameters, Shop, parameters
from tasks.train.arrays import Interactions, positions, values_of_pairs
from tasks.train.csr import Csr, IntArray, OffsetArray
from tasks.train.registry import SavedModel

KS = (5, 10, 20)
THIRDS = {"activity": ("least", "middle", "most"), "popularity": ("head", "middle", "tail")}
_OF_USERS = ("age_band", "country")
_ORDER = ("evaluation", "average", "metric", "k", "segment_kind", "segment")
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Case:
    """Lists of users and what to look for in them, all over the positions of the training data."""

    data: Interactions  # up to the cut
    relevant: Csr  # the pairs after it; users without one are not measured
    lists: IntArray  # [users with a pair, at least max(KS)], best first, -1 where short


def measure(s: Session, shop: Shop, ds: date, case: Case, work: Path) -> list[Quality]:
    """Every number of the lists; train.examples and train.holdout of the night are read already.

    Readings that the night's log has nothing for give no number.
    """
    params = _read(s, shop, ds)
    rows = np.flatnonzero(case.relevant.sizes())
    relevant = case.relevant.take(rows)
    pairs = s.stream(render(sql.read("queries/relevant_pairs"), params))
    said = values_of_pairs(pairs, case.data, case.relevant, work)
    evaluations = readings(said["n_random"], said["w_logged"], len(relevant.indices))
    segments = list(_segments(s, case.data, rows, relevant))
    where: Found = found(case.lists, relevant)
    of_lists = list_qualities(
        case.lists,
        KS,
        n_allowed=int(s.value("SELECT count(*) FROM serve.eligible_items")),
        n_users_before=np.bincount(case.data.indices, minlength=case.data.n_items),
        n_users=case.data.n_users,
        category=_numbered(_categories(s, case.data.items)),
    )
    return [*accuracies(where, evaluations, segments, KS), *of_lists]


def write(shop: Shop, ds: date, saved: SavedModel, qualities: Sequence[Quality]) -> TableVersion:
    """Replace the model's metrics of the night."""
    shared = {"model_version": saved.model_version, "ds": ds, "model": saved.model}
    rows = [vars(each) | shared for each in qualities]
    rows.sort(key=lambda row: [row[name] for name in _ORDER])
    return shop.lake.put("train.metrics", {"ds": ds, "model": saved.model}, rows)


def _read(s: Session, shop: Shop, ds: date) -> Parameters:
    params = parameters(shop, ds)
    catalogue_ds, cut = params["catalogue_ds"], params["cut"]
    assert isinstance(catalogue_ds, date)
    assert isinstance(cut, date)
    s.read("features.feedback_daily", since=cut, upto=ds)
    s.read("clean.items", since=catalogue_ds, upto=catalogue_ds)
    known_on = max((day for day in shop.lake.pin("clean.users").days() if day <= ds), default=ds)
    s.read("clean.users", since=known_on, upto=known_on)
    impressions = shop.mapping.impressions
    return params | {
        "positives": sorted(shop.mapping.behaviours.positives),
        "random_policies": [] if impressions is None else list(impressions.random_policies),
    }


def _segments(
    s: Session, data: Interactions, rows: OffsetArray, relevant: Csr
) -> Iterator[Segment]:
    """Of the pairs of the measured users, in the order of their kinds and names."""
    row_of_pair = relevant.rows()
    users = data.users.take(pa.array(rows))
    told = _aligned(s, "SELECT user_id, age_band, country FROM clean.users", users)
    for kind in _OF_USERS:
        values = told.column(kind).combine_chunks()
        for name in sorted(value for value in values.unique().to_pylist() if value is not None):
            is_in = pc.equal(values, name).fill_null(False)
            yield Segment(kind, name, is_in.to_numpy(zero_copy_only=False)[row_of_pair])
    activity = _thirds_of_users(_n_events(s, "user_id", users))
    popularity = _thirds_of_events(_n_events(s, "item_id", data.items))
    for third in range(3):
        yield Segment("activity", THIRDS["activity"][third], activity[row_of_pair] == third)
        name = THIRDS["popularity"][third]
        yield Segment("popularity", name, popularity[relevant.indices] == third)


def _n_events(s: Session, column: str, ids: pa.Array) -> Counts:
    """Positive events of these users or items before the cut."""
    select = f"SELECT {column}, sum(n_events)::BIGINT AS n FROM train.examples GROUP BY {column}"
    counts = _aligned(s, select, ids).column("n").fill_null(0)
    return np.asarray(counts.to_numpy(), dtype=np.int64)


def _thirds_of_users(n_events: Counts) -> IntArray:
    """0, 1, 2: up to the first third of these users, up to the second, above; equals together."""
    if not len(n_events):
        return np.empty(0, dtype=np.int32)
    bounds = np.quantile(n_events, (1 / 3, 2 / 3), method="inverted_cdf")
    thirds: IntArray = np.searchsorted(bounds, n_events, side="left").astype(np.int32)
    return thirds


def _thirds_of_events(n_events: Counts) -> IntArray:
    """0: the most popular items, which have the first third of all events; 1; 2: the many others.

    An item belongs to the third in which its events begin; ties go by position.
    """
    order = np.argsort(-n_events, kind="stable")
    before = np.cumsum(n_events[order]) - n_events[order]
    thirds = np.empty(len(n_events), dtype=np.int32)
    thirds[order] = np.minimum(3 * before // max(int(n_events.sum()), 1), 2)
    return thirds


def _categories(s: Session, items: pa.Array) -> pa.Array:
    """The category of each item in the night's catalogue, null where it has none."""
    rows = _aligned(s, "SELECT item_id, category FROM clean.items", items)
    return rows.column("category").combine_chunks()


def _numbered(values: pa.Array) -> IntArray:
    """A number for each different value, -1 for null."""
    numbers = values.dictionary_encode().indices.fill_null(-1)
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.int32)


def _aligned(s: Session, select: str, ids: pa.Array) -> pa.Table:
    """The rows of these ids, in their order; null where there is none.

    The SELECT has the id as its first column, and one row per id.
    """
    rows = s.stream(select).read_all()
    at = positions(ids, rows.column(0).combine_chunks())
    return rows.take(pa.array(at, mask=at < 0))

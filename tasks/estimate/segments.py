"""Segments of users: age band and country by the newest catalogue of users, and activity."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

import sql
from tasks.estimate.intervals import LEAST_USERS
from tasks.estimate.log import Log

KINDS = ("age_band", "country", "activity")
Mask = npt.NDArray[np.bool_]


def segments(log: Log, users: str, among: Mask | None = None) -> Iterator[tuple[str, str, Mask]]:
    """Kind, name and users of every segment, [n_users] in order of user_id; all of them first.

    Args:
        log: activity is counted up to its cut.
        users: a SELECT of user_id, each once.
        among: [n_users], who counts; everybody, if left out.

    A segment with fewer than LEAST_USERS who count is left out.
    """
    log.s.con.execute(f"CREATE OR REPLACE TABLE stated.users AS {users}")
    found = log.s.stream(sql.read("queries/user_segments"), log.params).read_all()
    counted = np.ones(found.num_rows, dtype=np.bool_) if among is None else among
    yield "all", "all", counted
    for kind in KINDS:
        labels = found.column(kind).to_numpy(zero_copy_only=False)
        for label in sorted({label for label in labels if label is not None}):
            of_label = counted & (labels == label)
            if of_label.sum() >= LEAST_USERS:
                yield kind, label, of_label

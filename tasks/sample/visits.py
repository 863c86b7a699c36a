"""Who comes when: requests for a slate, and searches, in sessions."""

from dataclasses import dataclass

import numpy as np

from tasks.sample.settings import DEVICES
from tasks.sample.world import Bools, Draw, Ints, World, generator

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
SESSION_GAP_MS = 30 * 60_000
P_USUAL_DEVICE = 0.85
# relative traffic per UTC hour
HOURS = np.array(
    [3, 2, 1, 1, 1, 2, 4, 6, 8, 9, 9, 9, 11, 10, 9, 9, 9, 10, 12, 14, 15, 14, 10, 6], dtype=float
)


@dataclass(frozen=True)
class Visits:
    """Visits of one day and one chunk of users, sorted by user, then time."""

    user: Ints  # [n]
    ms: Ints  # [n], milliseconds since the start of the day
    device: Ints  # [n], index into DEVICES
    session: Ints  # [n], number of the session within the chunk's day
    is_search: Bools  # [n], came by search or deep link: no slate

    def at(self, nth: Ints) -> "Visits":
        """These rows."""
        return Visits(
            self.user[nth], self.ms[nth], self.device[nth], self.session[nth], self.is_search[nth]
        )


def visits_of(world: World, day: int, chunk: int, users: Ints) -> Visits:
    """Draw the visits of these users on this day."""
    s = world.settings
    rng = generator(s, Draw.VISITS, day, chunk)
    rate = world.users.activity[users] * (s.requests_per_day + s.searches_per_day)
    n_visits = np.where(world.users.joined[users] <= day, rng.poisson(rate), 0)
    user = np.repeat(users, n_visits)
    hour = rng.choice(24, len(user), p=HOURS / HOURS.sum())
    ms = hour * HOUR_MS + rng.integers(HOUR_MS, size=len(user))
    order = np.lexsort((ms, user))
    ms = ms[order]
    session = _sessions(user, ms)
    p_search = s.searches_per_day / (s.requests_per_day + s.searches_per_day)
    is_search = rng.random(len(user)) < p_search
    return Visits(user, ms, _devices(world, rng, user, session), session, is_search)


def _sessions(user: Ints, ms: Ints) -> Ints:
    """A new session begins with each user and after half an hour of silence."""
    begins = np.ones(len(user), dtype=np.bool_)
    begins[1:] = (np.diff(user) != 0) | (np.diff(ms) > SESSION_GAP_MS)
    return begins.cumsum()


def _devices(world: World, rng: np.random.Generator, user: Ints, session: Ints) -> Ints:
    """The usual device, or in some sessions any; one per session."""
    n_sessions = session[-1] + 1 if len(session) else 1
    usual = rng.random(n_sessions) < P_USUAL_DEVICE
    other = rng.integers(len(DEVICES), size=n_sessions)
    return np.where(usual[session], world.users.device[user], other[session])

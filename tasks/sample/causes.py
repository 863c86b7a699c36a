"""What one event causes, and what only looks like it: intentions and session themes.

After a journey that reached the cart the user means, with some probability, to get an item of the
type that follows: one of the next few events is a click on one, found by search. By taste it goes
on to a cart or a purchase, which may cause the next. And now and then a session browses a category
with clicks that cause nothing: they put items side by side without cause. No type follows one of
its own category, so that a theme cannot imitate a cause.

These events have a session and no request; they change nothing of what was shown.
"""

from dataclasses import dataclass, fields

import numpy as np
import polars as pl

from tasks.sample import rows
from tasks.sample.behaviour import (
    CART,
    CLICK,
    VIEW,
    Actions,
    journeys,
    search_weights,
    searched_items,
)
from tasks.sample.visits import Visits
from tasks.sample.world import Bools, Draw, Ints, World, choose, generator

WAIT_MS = (5_000, 60_000)  # from what an intended click comes after


@dataclass(frozen=True)
class Intentions:
    """What users mean to get and have not got yet."""

    user: Ints  # [n]
    type_: Ints  # [n]
    due: Ints  # [n], it comes when the user has made this many clicks of other causes
    day: Ints  # [n], of the parent event
    parent: Ints  # [n], its number on that day

    def at(self, chosen: Bools) -> "Intentions":
        """Some of them."""
        return Intentions(*(getattr(self, each.name)[chosen] for each in fields(self)))

    def and_more(self, other: "Intentions") -> "Intentions":
        """Both."""
        pairs = ((getattr(self, each.name), getattr(other, each.name)) for each in fields(self))
        return Intentions(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True)
class _Clicks:
    """The clicks of a day that no intention made, in the order of users and time."""

    event: Ints  # [n], number of the event
    ms: Ints  # [n]
    pause: Ints  # [n], milliseconds until the user's next
    visit: Ints  # [n]
    before: Ints  # [n_users of the chunk], made on days before
    upto: Ints  # [n_users of the chunk], with those of the day

    @classmethod
    def of(cls, actions: Actions, user: Ints, before: Ints) -> "_Clicks":
        """user: [n events], from the first of the chunk on."""
        event = np.flatnonzero(actions.behaviour == CLICK)
        event = event[np.lexsort((actions.ms[event], user[event]))]
        upto = before + np.bincount(user[event], minlength=len(before))
        ms, by = actions.ms[event], user[event]
        pause = np.where(np.diff(by, append=-1) == 0, np.diff(ms, append=0), WAIT_MS[1] * 2)
        return cls(event, ms, pause, actions.visit[event], before, upto)

    def place(self, user: Ints, nth: Ints) -> Ints:
        """Where the nth click that a user ever made is, one of this day; [n], [n] -> [n]."""
        place: Ints = self._starts[user] + nth - self.before[user] - 1
        return place

    def nth(self, user: Ints) -> Ints:
        """Which click of its user each event is that is one of these, else 0; [n events]."""
        nth = np.zeros(len(user), dtype=np.int64)
        by = user[self.event]
        nth[self.event] = self.before[by] + np.arange(len(by)) - self._starts[by] + 1
        return nth

    @property
    def _starts(self) -> Ints:
        """Where the clicks of each user begin, [n_users of the chunk]."""
        of_day = self.upto - self.before
        starts: Ints = of_day.cumsum() - of_day
        return starts


class Causes:
    """What is browsed and what is caused in one chunk of users, day after day."""

    def __init__(self, world: World, chunk: int, users: Ints) -> None:
        self._world, self._chunk, self._first = world, chunk, users[0]
        nothing = np.empty(0, dtype=np.int64)
        self._waiting = Intentions(*(nothing for _ in fields(Intentions)))
        self._n_clicks = np.zeros(len(users), dtype=np.int64)
        self.intended = [pl.DataFrame(schema={"event_id": pl.String, "parent_id": pl.String})]
        self.browsed = [pl.DataFrame(schema={"event_id": pl.String})]

    def add_to(self, day: int, visits: Visits, actions: Actions, items: Ints) -> Actions:
        """The actions of a day and those beside them, on eligible `items`."""
        actions = actions.and_more(self._browsing(day, visits, len(actions.visit), items))
        user = visits.user[actions.visit] - self._first
        clicks = _Clicks.of(actions, user, self._n_clicks)
        rng = generator(self._world.settings, Draw.INTENTIONS, day, self._chunk)
        nth = clicks.nth(user)
        waiting = self._waiting.and_more(self._arisen(rng, day, visits, actions, nth, 0))
        while (ripe := waiting.due <= clicks.upto[waiting.user]).any():
            n = len(actions.visit)
            new, due = self._fulfilled(rng, day, visits, clicks, actions, waiting.at(ripe), items)
            actions, nth = actions.and_more(new), np.concatenate([nth, due])
            arisen = self._arisen(rng, day, visits, actions, nth, n)
            waiting = waiting.at(~ripe).and_more(arisen)
        self._waiting, self._n_clicks = waiting, clicks.upto
        return actions

    def _browsing(self, day: int, visits: Visits, n_before: int, items: Ints) -> Actions:
        """Sessions that browse a category: clicks and views."""
        world, s = self._world, self._world.settings
        rng = generator(s, Draw.BROWSING, day, self._chunk)
        _, first = np.unique(visits.session, return_index=True)
        first = first[rng.random(len(first)) < s.p_browsing]
        wanted = searched_items(world, rng, visits.user[first], items)
        least, most = s.browsing_clicks
        n = rng.integers(least, most + 1, len(first))
        visit, category = np.repeat(first, n), np.repeat(self._category(wanted), n)
        found = self._item_of(rng, visits.user[visit], self._category(items), category, items)
        place = np.arange(len(visit)) - np.repeat(n.cumsum() - n, n)
        ms = visits.ms[visit] + 20_000 * (1 + place) + rng.integers(0, 15_000, len(visit))
        nobody = np.zeros(len(visit), dtype=np.bool_)
        new = journeys(world, rng, visits, visit, found, ms, nobody, last=VIEW)
        event = n_before + np.arange(len(new.visit))
        self.browsed.append(pl.DataFrame({"event_id": rows.event_ids(day, self._chunk, event)}))
        return new

    def _arisen(
        self,
        rng: np.random.Generator,
        day: int,
        visits: Visits,
        actions: Actions,
        nth: Ints,
        since: int,
    ) -> Intentions:
        """What journeys that reached the cart cause; of events from number `since` on."""
        world, s = self._world, self._world.settings
        reached = since + np.flatnonzero(actions.behaviour[since:] >= CART)
        last = np.full(len(actions.visit), -1)  # of each journey; a purchase after its cart
        last[actions.click[reached]] = reached
        parent = last[last >= 0]
        lag = rng.integers(1, s.most_lag + 1, len(parent))
        intentions = Intentions(
            user=visits.user[actions.visit[parent]] - self._first,
            type_=world.types.succ[world.items.type_[actions.item[parent]]],
            due=nth[actions.click[parent]] + lag - 1,
            day=np.full(len(parent), day),
            parent=parent,
        )
        return intentions.at(rng.random(len(parent)) < s.p_intention)

    def _fulfilled(
        self,
        rng: np.random.Generator,
        day: int,
        visits: Visits,
        clicks: _Clicks,
        actions: Actions,
        ripe: Intentions,
        items: Ints,
    ) -> tuple[Actions, Ints]:
        """Journeys of intended items, and after which click of its user each event came."""
        types = self._world.items.type_[items]
        item = self._item_of(rng, self._first + ripe.user, types, ripe.type_, items)
        ripe, item = ripe.at(item >= 0), item[item >= 0]
        place = clicks.place(ripe.user, ripe.due)
        visit, ms = clicks.visit[place], clicks.ms[place]
        # before the next click, which would else be one event more between cause and effect
        ms = ms + np.minimum(rng.integers(*WAIT_MS, len(ms)), clicks.pause[place] // 2)
        today = ripe.day == day
        parent_ms = actions.ms[ripe.parent[today]]
        ms[today] = np.maximum(ms[today], parent_ms + rng.integers(*WAIT_MS, len(parent_ms)))
        nobody = np.zeros(len(visit), dtype=np.bool_)
        new = journeys(self._world, rng, visits, visit, item, ms, nobody)
        event = len(actions.visit) + np.arange(len(visit))
        ids = {
            "event_id": rows.event_ids(day, self._chunk, event),
            "parent_id": rows.event_ids(ripe.day, self._chunk, ripe.parent),
        }
        self.intended.append(pl.DataFrame(ids))
        return new, ripe.due[new.click]

    def _category(self, items: Ints) -> Ints:
        return self._world.types.category[self._world.items.type_[items]]

    def _item_of(
        self, rng: np.random.Generator, user: Ints, groups: Ints, wanted: Ints, items: Ints
    ) -> Ints:
        """An item of the wanted group that the user would look for, -1 where there is none; [n].

        groups: that of each of the `items`.
        """
        found = np.full(len(wanted), -1)
        for group in np.unique(wanted):
            of_group, asking = items[groups == group], np.flatnonzero(wanted == group)
            if len(of_group):
                weights = search_weights(self._world, user[asking], of_group)
                found[asking] = of_group[choose(rng, weights)]
        return found

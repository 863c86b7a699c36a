"""All numbers of the sample shop in one record."""

from dataclasses import asdict, dataclass, field, fields
from datetime import date, timedelta
from typing import Literal

from tasks.errors import SettingsError

BEHAVIOURS = ("click", "view", "favourite", "cart", "purchase")
DEVICES = ("mobile", "desktop", "tablet")
MainPolicy = Literal["mixed", "collapsed", "greedy"]

MAX_USERS = 1_000_000  # ids have six digits
MAX_ITEMS = 100_000  # ids have five digits


@dataclass(frozen=True)
class DirtRates:
    """Share of rows that get each kind of dirt; a row gets one kind at most."""

    malformed: float = 0.0
    wrong_type: float = 0.0
    missing_field: float = 0.0
    duplicate: float = 0.0
    resent: float = 0.0
    late: float = 0.0
    unknown_item: float = 0.0
    future: float = 0.0


EVENT_DIRT = DirtRates(
    malformed=0.001,
    wrong_type=0.001,
    missing_field=0.001,
    duplicate=0.005,
    resent=0.003,
    late=0.01,
    unknown_item=0.001,
    future=0.0002,
)
IMPRESSION_DIRT = DirtRates(malformed=0.001, duplicate=0.005)


@dataclass(frozen=True)
class ShopSettings:
    """The world, its size and its seed; weights are in logits unless a unit is given."""

    n_days: int = 21
    n_users: int = 2000
    n_items: int = 800
    seed: int = 1
    start: date = field(default=date(2026, 1, 5), init=False)

    # entities
    n_types: int = 60
    n_categories: int = 40
    n_brands: int = 24
    n_personas: int = 12
    d_taste: int = 8
    d_style: int = 4
    item_spread: float = 0.6  # sd of q_i around its type
    user_spread: float = 0.6  # sd of p_u around its persona
    popularity_spread: float = 1.0  # sd of log pi_i
    arriving_share: float = 0.1  # users and items that come during the window
    p_stock_out: float = 0.03  # per day, in stock -> out
    p_restock: float = 0.3  # per day, out -> in stock
    p_promo_on: float = 1 / 14  # per day and brand
    p_promo_off: float = 1 / 7

    # exposure
    requests_per_day: float = 1.0  # mean over users
    searches_per_day: float = 0.15
    activity_spread: float = 0.8  # sd of log a_u
    slate_size: int = 10
    n_not_shown: int = 3
    uniform_share: float = 0.1  # per position of the main policy
    uniform_requests: float = 0.05  # share of requests under the uniform policy
    main_policy: MainPolicy = "mixed"
    w_popularity: float = 0.5
    w_promo: float = 0.5
    w_taste: float = 0.6
    w_taste_collapsed: float = 2.0  # replaces w_taste where main_policy = "collapsed"
    taste_noise: float = 0.8  # sd of the policy's error about p_u
    examination_power: float = 0.7  # theta_k = k ** -power
    device_examination: tuple[float, float, float] = (0.85, 1.0, 0.9)

    # behaviour
    habit_spread: float = 0.6  # sd of h_u^k
    mix_spread: float = 0.4  # sd of d_i^k
    w_brand: float = 0.4
    # per behaviour, given the one before: along click, view, cart, purchase they add up
    taste_weights: tuple[float, ...] = (0.75, 0.2, 0.3, 0.4, 0.5)
    base_logits: tuple[float, ...] = (-2.1, 0.9, -3.0, -2.7, -1.9)
    w_price: tuple[float, ...] = (0.0, 0.0, 0.0, 0.3, 0.8)  # per log(price / budget)

    # what an event causes, and what only looks like it
    p_intention: float = 0.6  # that a cart or purchase makes the user want the type that follows
    most_lag: int = 5  # it comes as one of the next 1 to this many
    p_browsing: float = 0.1  # that a session browses a category
    browsing_clicks: tuple[int, int] = (2, 3)  # of such a session, the least and the most

    # dirt
    event_dirt: DirtRates = EVENT_DIRT
    impression_dirt: DirtRates = IMPRESSION_DIRT
    repeat_a_file: bool = True

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise SettingsError(
                f"a sample shop cannot have {problem}",
                where="ShopSettings",
                unchanged="no file was written",
                fix="change that number",
            )

    @property
    def days(self) -> list[date]:
        """The dates of the window, UTC."""
        return [self.start + timedelta(days=d) for d in range(self.n_days)]

    @property
    def p_uniform(self) -> float:
        """Chance that the main policy fills a position uniformly."""
        return 0.0 if self.main_policy == "collapsed" else self.uniform_share

    @property
    def taste_weight(self) -> float:
        """Weight of the believed taste in the policy score."""
        return self.w_taste_collapsed if self.main_policy == "collapsed" else self.w_taste

    def as_json(self) -> dict[str, object]:
        """Every number, as JSON knows it."""
        numbers = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return numbers | {"start": self.start.isoformat()}


def _problems(s: ShopSettings) -> list[str]:
    least_items = s.slate_size + s.n_not_shown
    checks = {
        f"n_days = {s.n_days}": s.n_days >= 1,
        f"n_users = {s.n_users} (1 to {MAX_USERS})": 1 <= s.n_users <= MAX_USERS,
        f"n_items = {s.n_items} ({least_items} to {MAX_ITEMS}, a slate and the items not shown)": (
            least_items <= s.n_items <= MAX_ITEMS
        ),
        f"seed = {s.seed}": s.seed >= 0,
        "fewer than 2 types, brands, personas or categories": (
            min(s.n_types, s.n_brands, s.n_personas, s.n_categories) >= 2
        ),
        f"n_types = {s.n_types} in n_categories = {s.n_categories}": s.n_types >= s.n_categories,
        f"slate_size = {s.slate_size}": s.slate_size >= 1,
        f"n_not_shown = {s.n_not_shown}": s.n_not_shown >= 0,
        "a negative number of requests or searches": (
            min(s.requests_per_day, s.searches_per_day) >= 0
            and s.requests_per_day + s.searches_per_day > 0
        ),
        f"main_policy = {s.main_policy!r}": s.main_policy in ("mixed", "collapsed", "greedy"),
        "a probability outside 0..1": all(0 <= p <= 1 for p in _probabilities(s)),
        f"most_lag = {s.most_lag}": s.most_lag >= 1,
        f"browsing_clicks = {s.browsing_clicks}": 0 <= s.browsing_clicks[0] <= s.browsing_clicks[1],
        "dirt rates that add up to more than 1": (
            max(sum(_rates(s.event_dirt)), sum(_rates(s.impression_dirt))) <= 1
        ),
        "a weight list that does not have one number per behaviour": all(
            len(w) == len(BEHAVIOURS) for w in (s.taste_weights, s.base_logits, s.w_price)
        ),
    }
    return [words for words, holds in checks.items() if not holds]


def _rates(dirt: DirtRates) -> list[float]:
    return [getattr(dirt, f.name) for f in fields(dirt)]


def _probabilities(s: ShopSettings) -> list[float]:
    shares = [s.arriving_share, s.uniform_share, s.uniform_requests]
    shares += [s.p_intention, s.p_browsing]
    chains = [s.p_stock_out, s.p_restock, s.p_promo_on, s.p_promo_off]
    dirt = _rates(s.event_dirt) + _rates(s.impression_dirt)
    return [*shares, *chains, *s.device_examination, *dirt]

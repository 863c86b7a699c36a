"""features.*: the multi-behaviour table, popularity, history and propensities."""

from expectations.catalogue import Column, Lookback, Table

_DAY = Column("ds", "DATE", "UTC date of occurrence", required=True)
_USER = Column("user_id", "VARCHAR", "who", True, is_person=True)
_ITEM = Column("item_id", "VARCHAR", "what", True)
_BEHAVIOUR = Column("behaviour", "VARCHAR", "click, view, favourite, cart, purchase, ...", True)
_WINDOW: Lookback = "history"

_COUNTS = (
    Column("n_events", "BIGINT", "events", True),
    Column("first_at", "TIMESTAMPTZ", "the first of them", True),
    Column("last_at", "TIMESTAMPTZ", "the last of them", True),
)
_STEPS = Column(
    "steps",
    "STRUCT(occurred_at TIMESTAMPTZ, item_id VARCHAR, behaviour VARCHAR)[]",
    "events in order of occurrence, ties by behaviour and item",
    True,
)

BEHAVIOURS_DAILY = Table(
    name="features.behaviours_daily",
    kind="increment",
    grain="one user, item, behaviour and date of occurrence",
    key=("ds", "user_id", "item_id", "behaviour"),
    sort_by=("user_id", "item_id", "behaviour"),
    reads=("clean.events",),
    columns=(_USER, _ITEM, _BEHAVIOUR, *_COUNTS, _DAY),
)

BEHAVIOURS = Table(
    name="features.behaviours",
    kind="view",
    grain="one user, item and behaviour over the window",
    key=("user_id", "item_id", "behaviour"),
    reads=("features.behaviours_daily",),
    lookback=_WINDOW,
    columns=(_USER, _ITEM, _BEHAVIOUR, *_COUNTS),
)

TRAFFIC_DAILY = Table(
    name="features.traffic_daily",
    kind="increment",
    grain="one date of occurrence",
    key=("ds",),
    sort_by=("ds",),
    reads=("clean.events", "clean.impressions"),
    columns=(
        Column("n_events", "BIGINT", "events", True),
        Column("n_users", "BIGINT", "distinct users with an event", True),
        Column("n_requests", "BIGINT", "distinct requests with a shown item", True),
        Column("n_impressions", "BIGINT", "shown items", True),
        _DAY,
    ),
)

POPULARITY_DAILY = Table(
    name="features.popularity_daily",
    kind="increment",
    grain="one item, behaviour (impression among them) and date of occurrence",
    key=("ds", "item_id", "behaviour"),
    sort_by=("item_id", "behaviour"),
    reads=("clean.events", "clean.impressions"),
    columns=(
        _ITEM,
        _BEHAVIOUR,
        Column("n_events", "BIGINT", "events, or times shown", True),
        Column("n_users", "BIGINT", "distinct users that day", True),
        Column("n_requests", "BIGINT", "distinct requests that showed it; 0 for events", True),
        _DAY,
    ),
)

POPULARITY = Table(
    name="features.popularity",
    kind="view",
    grain="one item and behaviour over the window",
    key=("item_id", "behaviour"),
    reads=("features.popularity_daily",),
    lookback=_WINDOW,
    columns=(
        _ITEM,
        _BEHAVIOUR,
        Column("n_events", "BIGINT", "events, or times shown", True),
        Column("n_user_days", "BIGINT", "distinct users summed over days", True),
        Column("n_requests", "BIGINT", "requests that showed it; 0 for events", True),
    ),
)

USER_HISTORY_DAILY = Table(
    name="features.user_history_daily",
    kind="increment",
    grain="one user and date of occurrence",
    key=("ds", "user_id"),
    sort_by=("user_id",),
    reads=("clean.events",),
    columns=(_USER, Column("n_events", "BIGINT", "events", True), _STEPS, _DAY),
)

USER_HISTORY = Table(
    name="features.user_history",
    kind="view",
    grain="one user over the window",
    key=("user_id",),
    reads=("features.user_history_daily",),
    lookback=_WINDOW,
    columns=(_USER, Column("n_events", "BIGINT", "events", True), _STEPS),
)

_ESTIMATOR = Column("estimator", "VARCHAR", "exposure_share or popularity_power_law", True)
_P_EXPOSED = Column("p_exposed", "DOUBLE", "estimated propensity of exposure, above 0 to 1", True)
_CLIPPED = Column("is_clipped", "BOOLEAN", "the estimate was raised to the clip", True)

_SHOWN = (
    Column("impression_id", "VARCHAR", "clean.impressions.impression_id", True),
    Column("request_id", "VARCHAR", "the request that it answered", True),
    _USER,
    _ITEM,
    Column("position", "INTEGER", "1 is the first"),
    Column("policy", "VARCHAR", "the ranking policy that filled the slot"),
)

IMPRESSION_PROPENSITIES = Table(
    name="features.impression_propensities",
    kind="increment",
    grain="one shown impression",
    key=("ds", "impression_id"),
    sort_by=("user_id", "impression_id"),
    reads=("clean.impressions", "features.popularity_daily", "features.traffic_daily"),
    lookback=_WINDOW,
    owner="machine learning",
    columns=(
        *_SHOWN,
        Column("p_logged", "DOUBLE", "the policy's own logged probability, where it has one"),
        _P_EXPOSED,
        _CLIPPED,
        _ESTIMATOR,
        _DAY,
    ),
)

FEEDBACK_DAILY = Table(
    name="features.feedback_daily",
    kind="increment",
    grain="one shown impression, and what its user did with it",
    key=("ds", "impression_id"),
    sort_by=("request_id", "position", "impression_id"),
    reads=("clean.impressions", "clean.events"),
    owner="machine learning",
    columns=(
        *_SHOWN,
        Column("policy_score", "DOUBLE", "the policy's score of the item for the user"),
        Column("p_logged", "DOUBLE", "the policy's own logged probability, where it has one"),
        Column(
            "behaviours", "VARCHAR[]", "what followed from the request on the item that date", True
        ),
        _DAY,
    ),
)

ITEM_PROPENSITIES = Table(
    name="features.item_propensities",
    kind="snapshot",
    grain="one item as of ds",
    key=("ds", "item_id"),
    sort_by=("item_id",),
    reads=("features.popularity_daily", "features.traffic_daily", "clean.items"),
    lookback=_WINDOW,
    owner="machine learning",
    columns=(
        _ITEM,
        Column("n_impressions", "BIGINT", "times shown in the window", True),
        Column("n_events", "BIGINT", "events in the window", True),
        _P_EXPOSED,
        _CLIPPED,
        _ESTIMATOR,
        Column("ds", "DATE", "date of the night", True),
    ),
)

TABLES = (
    BEHAVIOURS_DAILY,
    BEHAVIOURS,
    TRAFFIC_DAILY,
    POPULARITY_DAILY,
    POPULARITY,
    USER_HISTORY_DAILY,
    USER_HISTORY,
    FEEDBACK_DAILY,
    IMPRESSION_PROPENSITIES,
    ITEM_PROPENSITIES,
)

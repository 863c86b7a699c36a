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

EXPOSURE_DAILY = Table(
    name="features.exposure_daily",
    kind="increment",
    grain="one item, fold of users and date of occurrence",
    key=("ds", "item_id", "fold"),
    sort_by=("item_id", "fold"),
    reads=("clean.impressions",),
    owner="machine learning",
    columns=(
        _ITEM,
        Column("fold", "INTEGER", "of users: what is said of one is counted on the others", True),
        Column("n_requests", "BIGINT", "distinct requests of the fold that showed it", True),
        Column("n_fold_requests", "BIGINT", "distinct requests of the fold", True),
        _DAY,
    ),
)

_ESTIMATOR = Column("estimator", "VARCHAR", "the estimator that made it", True)
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
    # What any estimator reads; the one that is set reads some of them: its step says which.
    reads=(
        "clean.impressions",
        "clean.items",
        "features.exposure_daily",
        "features.popularity_daily",
        "features.feedback_daily",
    ),
    lookback=_WINDOW,
    owner="machine learning",
    columns=(
        *_SHOWN,
        Column("p_logged", "DOUBLE", "the policy's own logged probability, where it has one"),
        Column("p_estimated", "DOUBLE", "the estimate as it was made", True),
        Column(
            "p_exposed",
            "DOUBLE",
            "the same, clipped from below: of the slot (logged), of being shown in the request, or "
            "of being examined relative to the best position (examination)",
            True,
        ),
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

EXAMINATION = Table(
    name="features.examination",
    kind="snapshot",
    grain="one position, by one method, as of ds",
    key=("ds", "method", "position"),
    sort_by=("method", "position"),
    reads=("features.feedback_daily",),
    lookback=_WINDOW,
    owner="machine learning",
    columns=(
        Column("method", "VARCHAR", "harvesting or em: see tasks/estimate/examination.py", True),
        Column("position", "INTEGER", "1 is the first", True),
        Column("theta", "DOUBLE", "how often it is examined, relative to the first", True),
        Column("se", "DOUBLE", "standard error, leaving out one fold of users at a time"),
        Column("n_slots", "BIGINT", "slots at the position in the window", True),
        Column("n_clicks", "BIGINT", "those from which any behaviour followed", True),
        Column("is_used", "BOOLEAN", "propensities take theta from this method", True),
        Column("ds", "DATE", "date of the night", True),
    ),
)

ITEM_PROPENSITIES = Table(
    name="features.item_propensities",
    kind="snapshot",
    grain="one item as of ds",
    key=("ds", "item_id"),
    sort_by=("item_id",),
    reads=(
        "features.popularity_daily",
        "features.traffic_daily",
        "features.feedback_daily",
        "features.examination",
        "clean.items",
    ),
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
    EXPOSURE_DAILY,
    IMPRESSION_PROPENSITIES,
    EXAMINATION,
    ITEM_PROPENSITIES,
)

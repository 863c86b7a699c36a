"""serve.*: who gets a list, what may stand in it, the lists, and what is served."""

from expectations.catalogue import Column, Table

_USER = Column("user_id", "VARCHAR", "who", True, is_person=True)
_ITEM = Column("item_id", "VARCHAR", "what", True)
_DS = Column("ds", "DATE", "date of the night", True)
_RELEASE = Column("release_id", "VARCHAR", "the finished list it belongs to", True)

ACTIVE_USERS = Table(
    name="serve.active_users",
    kind="snapshot",
    grain="one user with an event in the last active_days",
    key=("ds", "user_id"),
    sort_by=("user_id",),
    reads=("features.behaviours_daily",),
    lookback="history",
    columns=(
        _USER,
        Column("n_events", "BIGINT", "events in those days", True),
        Column("last_at", "TIMESTAMPTZ", "the last of them", True),
        _DS,
    ),
)

ELIGIBLE_ITEMS = Table(
    name="serve.eligible_items",
    kind="snapshot",
    grain="one item that may be recommended: in the catalogue, on sale, in stock",
    key=("ds", "item_id"),
    sort_by=("item_id",),
    reads=("clean.items",),
    lookback="all",
    columns=(_ITEM, Column("catalogue_ds", "DATE", "snapshot of the catalogue", True), _DS),
)

SEEN_ITEMS = Table(
    name="serve.seen_items",
    kind="snapshot",
    grain="one user and item that must not be recommended again; active users only",
    key=("ds", "user_id", "item_id"),
    sort_by=("user_id", "item_id"),
    reads=("features.behaviours_daily", "serve.active_users"),
    lookback="all",
    columns=(_USER, _ITEM, _DS),
)

CANDIDATES = Table(
    name="serve.candidates",
    kind="snapshot",
    grain="one model's rank for one active user: exact top-K over eligible, unseen items",
    partition_by=("ds", "model"),
    key=("ds", "model", "user_id", "rank"),
    sort_by=("user_id", "rank"),
    reads=("serve.active_users", "serve.eligible_items", "serve.seen_items"),
    lookback="history",
    owner="machine learning",
    columns=(
        _USER,
        Column("rank", "INTEGER", "1 is the best", True),
        _ITEM,
        Column("score", "DOUBLE", "the model's score; only its order means anything", True),
        Column("because", "VARCHAR", "item of the user's own history that weighed most"),
        Column("model_version", "VARCHAR", "content hash of the trained model", True),
        _DS,
        Column("model", "VARCHAR", "name in the registry", True),
    ),
)

CAUSAL_EDGES = Table(
    name="serve.causal_edges",
    kind="snapshot",
    grain="one pair of items of which the first seems to cause the second, by one model",
    partition_by=("ds", "model"),
    key=("ds", "model", "cause", "effect"),
    sort_by=("strength", "cause", "effect"),
    reads=("features.user_history_daily",),
    lookback="history",
    owner="machine learning",
    columns=(
        Column("cause", "VARCHAR", "item that users had first", True),
        Column("effect", "VARCHAR", "item that they had soon after", True),
        Column(
            "strength",
            "DOUBLE",
            "how much more often first than after and by chance: standard deviations, drawn to 0",
            True,
        ),
        Column("support", "BIGINT", "times that the cause came first, within the window", True),
        Column(
            "control_strength", "DOUBLE", "the strength where each user's steps are shuffled", True
        ),
        Column(
            "mean_effect",
            "DOUBLE",
            "of the cause on the effect in users' last steps, by the model's graph; null: in none",
        ),
        Column("model_version", "VARCHAR", "content hash of the trained model", True),
        _DS,
        Column("model", "VARCHAR", "name in the registry", True),
    ),
)

TRIALS = Table(
    name="serve.trials",
    kind="log",
    grain="one rank of what one model of the days up to the cut would have listed for one user",
    partition_by=("ds", "release_id", "model"),
    key=("release_id", "model", "user_id", "rank"),
    sort_by=("user_id", "rank"),
    reads=("train.examples", "serve.eligible_items", "features.behaviours_daily"),
    lookback="history",
    owner="machine learning",
    columns=(
        _USER,
        Column("rank", "INTEGER", "1 is the best", True),
        _ITEM,
        Column("score", "DOUBLE", "the model's score; only its order means anything", True),
        Column("cut", "DATE", "the last date that the model knows; its user came after it", True),
        _DS,
        _RELEASE,
        Column("model", "VARCHAR", "name in the registry", True),
    ),
)

_RECOMMENDATION = (
    _RELEASE,
    _DS,
    _USER,
    Column("rank", "INTEGER", "1 is the best", True),
    _ITEM,
    Column("score", "DOUBLE", "the model's score; only its order means anything", True),
    Column("model", "VARCHAR", "name in the registry", True),
    Column("model_version", "VARCHAR", "content hash of the trained model", True),
    Column("source", "VARCHAR", "model, cold fill, fallback or exploration", True),
    Column(
        "reasons",
        "STRUCT(kind VARCHAR, n_users BIGINT, last_at TIMESTAMPTZ, because VARCHAR)",
        "kind: taste, popularity or return; users who liked it in the window; "
        "the user's own last positive event with it; the item of the user's own history that "
        "weighed most, where the model has one",
        True,
    ),
    Column("rule_trace", "VARCHAR[]", "the rules that this row passed, in order", True),
    Column("p_shown", "DOUBLE", "probability of this row under exploration; null: none"),
)

RECOMMENDATIONS = Table(
    name="serve.recommendations",
    kind="log",
    grain="one rank of one user in one release; a release is never overwritten",
    partition_by=("ds", "release_id"),
    key=("release_id", "user_id", "rank"),
    sort_by=("user_id", "rank"),
    reads=("serve.candidates", "serve.active_users"),
    columns=_RECOMMENDATION,
)

SHORTFALLS = Table(
    name="serve.shortfalls",
    kind="log",
    grain="one active user with fewer than K rows in one release",
    partition_by=("ds", "release_id"),
    key=("release_id", "user_id"),
    sort_by=("user_id",),
    reads=("serve.active_users", "serve.recommendations"),
    columns=(
        _RELEASE,
        _DS,
        _USER,
        Column("n_rows", "BIGINT", "rows that the user did get", True),
        Column("n_eligible", "BIGINT", "items that could be recommended to anyone", True),
        Column("n_seen", "BIGINT", "of these, already seen by the user", True),
        Column("reason", "VARCHAR", "why there are no more", True),
    ),
)

COMPARISONS = Table(
    name="serve.comparisons",
    kind="log",
    grain="one model of a release against what was served, by one estimate and segment of users",
    partition_by=("ds", "release_id"),
    key=("release_id", "model", "estimator", "segment_kind", "segment"),
    sort_by=("model", "estimator", "segment_kind", "segment"),
    reads=("serve.trials", "features.feedback_daily", "train.holdout", "clean.users"),
    lookback="history",
    owner="machine learning",
    columns=(
        Column("model", "VARCHAR", "the challenger", True),
        Column("is_candidate", "BOOLEAN", "the release holds this model's lists", True),
        Column("champion_release", "VARCHAR", "the release that was served", True),
        Column("champion_model", "VARCHAR", "whose lists it held", True),
        Column(
            "estimator", "VARCHAR", "ips, clipped_ips, snips, dr; or time_split: NDCG at K", True
        ),
        Column("reward", "VARCHAR", "the behaviour that counts; 'ndcg' of the time split", True),
        Column("segment_kind", "VARCHAR", "all, age band, country or activity", True),
        Column("segment", "VARCHAR", "which of them", True),
        Column("value", "DOUBLE", "of the challenger: mean reward per slot, or mean NDCG"),
        Column("champion_value", "DOUBLE", "of the champion"),
        Column("change", "DOUBLE", "value / champion_value - 1; null: nothing can be said"),
        Column("se", "DOUBLE", "standard error of the change, clustered by user, paired"),
        Column("lower", "DOUBLE", "lower end of its 95 % interval"),
        Column("upper", "DOUBLE", "upper end of its 95 % interval"),
        Column("n_slots", "BIGINT", "slots after the cut, or users with something to find", True),
        Column("n_users", "BIGINT", "users whom both lists serve", True),
        Column("ess", "DOUBLE", "effective sample size of the challenger's weights", True),
        Column("verdict", "VARCHAR", "ok, weak overlap or no overlap (or too few users)", True),
        Column("cut", "DATE", "the last date that either model knows", True),
        _RELEASE,
        _DS,
    ),
)

VERDICTS = Table(
    name="serve.verdicts",
    kind="log",
    grain="one rule of the gate about one release",
    partition_by=("ds", "release_id"),
    key=("release_id", "rule"),
    sort_by=("rule",),
    reads=("serve.comparisons", "serve.recommendations", "serve.publications"),
    columns=(
        Column("rule", "VARCHAR", "value, time split, users, rows, coverage, ...", True),
        Column("observed", "DOUBLE", "what was found; null: nothing to judge"),
        Column("bound", "DOUBLE", "where the rule holds the night; null: no bound"),
        Column("verdict", "VARCHAR", "pass, hold or not judged", True),
        Column("sentence", "VARCHAR", "one sentence why", True),
        _RELEASE,
        _DS,
    ),
)

PUBLICATIONS = Table(
    name="serve.publications",
    kind="log",
    grain="one decision about one release; what is served is the last publish, force or rollback",
    partition_by=("ds",),
    key=("release_id", "decided_at"),
    sort_by=("decided_at",),
    reads=("serve.recommendations",),
    columns=(
        _RELEASE,
        _DS,
        Column("action", "VARCHAR", "publish, hold, force, rollback or backfill", True),
        Column("reason", "VARCHAR", "one sentence", True),
        Column("who", "VARCHAR", "who or what decided", True),
        Column("decided_at", "TIMESTAMPTZ", "when", True),
        Column("model", "VARCHAR", "the model that was asked for", True),
        Column("n_users", "BIGINT", "users with a row", True),
        Column("n_rows", "BIGINT", "rows", True),
        Column("run_id", "VARCHAR", "ops.nights.run_id", True),
    ),
)

HOLDS = Table(
    name="serve.holds",
    kind="log",
    grain="one time that a person held publishing back (hold) or let it go on (resume)",
    partition_by=("ds",),
    key=("decided_at",),
    sort_by=("decided_at",),
    reads=("serve.publications",),
    columns=(
        Column(
            "action", "VARCHAR", "hold: later nights do not publish; resume: they do again", True
        ),
        Column("reason", "VARCHAR", "why", True),
        Column("who", "VARCHAR", "who decided", True),
        Column("decided_at", "TIMESTAMPTZ", "when", True),
        Column("release_id", "VARCHAR", "what was served then", True),
        Column("ds", "DATE", "date of its night", True),
    ),
)

CURRENT = Table(
    name="serve.current",
    kind="view",
    grain="one rank of one user in the release that is served",
    key=("user_id", "rank"),
    reads=("serve.recommendations", "serve.publications"),
    columns=_RECOMMENDATION,
)

TABLES = (
    ACTIVE_USERS,
    ELIGIBLE_ITEMS,
    SEEN_ITEMS,
    CANDIDATES,
    CAUSAL_EDGES,
    TRIALS,
    RECOMMENDATIONS,
    SHORTFALLS,
    COMPARISONS,
    VERDICTS,
    PUBLICATIONS,
    HOLDS,
    CURRENT,
)

"""train.*: what models learn from and what they are measured on."""

from expectations.catalogue import Column, Table

_USER = Column("user_id", "VARCHAR", "who", True, is_person=True)
_ITEM = Column("item_id", "VARCHAR", "what", True)
_DS = Column("ds", "DATE", "date of the night", True)

EXAMPLES = Table(
    name="train.examples",
    kind="snapshot",
    grain="one user and item with a positive behaviour before the cut",
    key=("ds", "user_id", "item_id"),
    sort_by=("user_id", "item_id"),
    reads=("features.behaviours_daily",),
    lookback="history",
    owner="machine learning",
    columns=(
        _USER,
        _ITEM,
        Column("weight", "DOUBLE", "weight of the strongest positive behaviour", True),
        Column("n_events", "BIGINT", "positive events", True),
        Column("last_at", "TIMESTAMPTZ", "the last of them", True),
        _DS,
    ),
)

HOLDOUT = Table(
    name="train.holdout",
    kind="snapshot",
    grain="one user and item with a positive behaviour in the holdout, the last days up to ds",
    key=("ds", "user_id", "item_id"),
    sort_by=("user_id", "item_id"),
    reads=("features.behaviours_daily", "train.examples"),
    lookback="history",
    owner="machine learning",
    columns=(
        _USER,
        _ITEM,
        Column("weight", "DOUBLE", "weight of the strongest positive behaviour", True),
        Column("n_events", "BIGINT", "positive events", True),
        Column("last_at", "TIMESTAMPTZ", "the last of them", True),
        Column("is_new", "BOOLEAN", "the pair is not in train.examples", True),
        _DS,
    ),
)

METRICS = Table(
    name="train.metrics",
    kind="snapshot",
    grain="one model, metric and K on the time split of one night",
    partition_by=("ds", "model"),
    key=("ds", "model", "metric", "k"),
    sort_by=("metric", "k"),
    reads=("train.examples", "train.holdout"),
    lookback="history",
    owner="machine learning",
    columns=(
        Column("model_version", "VARCHAR", "content hash of the trained model", True),
        Column("metric", "VARCHAR", "recall, ndcg, hit_rate, coverage", True),
        Column("k", "INTEGER", "length of the list", True),
        Column("value", "DOUBLE", "0 to 1", True),
        Column("n_users", "BIGINT", "users with something to find", True),
        _DS,
        Column("model", "VARCHAR", "name in the registry", True),
    ),
)

TABLES = (EXAMPLES, HOLDOUT, METRICS)

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
    grain="one number about one model's lists of one night, made from what was known up to the cut",
    partition_by=("ds", "model"),
    key=("ds", "model", "evaluation", "average", "metric", "k", "segment_kind", "segment"),
    sort_by=("evaluation", "average", "metric", "k", "segment_kind", "segment"),
    reads=(
        "train.examples",
        "train.holdout",
        "features.feedback_daily",
        "serve.eligible_items",
        "clean.items",
        "clean.users",
    ),
    lookback="history",
    owner="machine learning",
    columns=(
        Column("model_version", "VARCHAR", "content hash of the trained model", True),
        Column("evaluation", "VARCHAR", "time split, random slice, snips; or lists", True),
        Column("average", "VARCHAR", "users; pairs, each a case of its own; lists together", True),
        Column(
            "metric",
            "VARCHAR",
            "recall, ndcg, hit_rate, mrr; of lists: coverage, gini, novelty, diversity",
            True,
        ),
        Column("k", "INTEGER", "length of the list", True),
        Column("segment_kind", "VARCHAR", "all, age_band, country, activity, popularity", True),
        Column("segment", "VARCHAR", "which users, or of popularity, which relevant items", True),
        Column("value", "DOUBLE", "0 to 1; of novelty, bits", True),
        Column("se", "DOUBLE", "standard error, clustered by user; null: nothing can be said"),
        Column("lower", "DOUBLE", "lower end of the 95 % interval"),
        Column("upper", "DOUBLE", "upper end of the 95 % interval"),
        Column("n_users", "BIGINT", "users that count", True),
        Column("n_pairs", "BIGINT", "relevant pairs that count; of lists 0", True),
        Column("ess", "DOUBLE", "effective sample size of the weights, in pairs", True),
        Column("estimand", "VARCHAR", "what the value is the mean of, or an estimate of", True),
        _DS,
        Column("model", "VARCHAR", "name in the registry", True),
    ),
)

EPOCHS = Table(
    name="train.epochs",
    kind="snapshot",
    grain="one pass over the positives of a model's training on the time split of one night",
    partition_by=("ds", "model"),
    key=("ds", "model", "epoch"),
    sort_by=("epoch",),
    reads=("train.examples", "train.holdout", "features.item_propensities"),
    lookback="history",
    owner="machine learning",
    columns=(
        Column("epoch", "INTEGER", "1 is the first pass", True),
        Column("loss", "DOUBLE", "mean loss of the pass", True),
        Column("ndcg", "DOUBLE", "NDCG@20 after it, of the users that choose the best epoch"),
        Column("ess_share", "DOUBLE", "effective sample size of its weights, of its rows", True),
        Column("n_parts", "INTEGER", "parts of a batch: more than 1 where memory ran out", True),
        Column("is_best", "BOOLEAN", "the pass whose weights were measured", True),
        _DS,
        Column("model", "VARCHAR", "name in the registry", True),
    ),
)

POLICY_VALUES = Table(
    name="train.policy_values",
    kind="snapshot",
    grain="one estimate of what a stated policy would have earned per slot of the log",
    key=("ds", "behaviour", "policy", "segment_kind", "segment", "slots", "estimator"),
    sort_by=("behaviour", "policy", "segment_kind", "segment", "slots", "estimator"),
    reads=("features.feedback_daily", "features.popularity_daily", "clean.items"),
    lookback="history",
    owner="machine learning",
    columns=(
        Column(
            "behaviour", "VARCHAR", "the reward: it followed from the request on the item", True
        ),
        Column("policy", "VARCHAR", "the stated policy", True),
        Column("states", "VARCHAR", "what it does with a slot", True),
        Column(
            "segment_kind",
            "VARCHAR",
            "all; age_band, country or activity of users; popularity: the policy over these items",
            True,
        ),
        Column("segment", "VARCHAR", "which of them", True),
        Column("slots", "VARCHAR", "first position, or all positions", True),
        Column("estimator", "VARCHAR", "naive, ips, clipped_ips, snips or dr", True),
        Column("value", "DOUBLE", "mean reward per slot; null: nothing can be said"),
        Column("se", "DOUBLE", "standard error, clustered by user"),
        Column("lower", "DOUBLE", "lower end of the 95 % interval"),
        Column("upper", "DOUBLE", "upper end of the 95 % interval"),
        Column("n_slots", "BIGINT", "slots with a logged probability", True),
        Column("n_users", "BIGINT", "users with such a slot", True),
        Column("ess", "DOUBLE", "effective sample size of the weights, in slots", True),
        Column("mean_weight", "DOUBLE", "1 where the log supports the policy", True),
        Column("max_weight", "DOUBLE", "the largest weight of a slot", True),
        Column("verdict", "VARCHAR", "ok, weak overlap or no overlap", True),
        Column("sentence", "VARCHAR", "what the verdict means", True),
        _DS,
    ),
)

PROPENSITY_DIAGNOSTICS = Table(
    name="train.propensity_diagnostics",
    kind="snapshot",
    grain="one check of the propensities of a night",
    key=("ds", "weight", "measure", "about"),
    sort_by=("weight", "measure", "about"),
    reads=(
        "clean.impressions",
        "features.item_propensities",
        "features.impression_propensities",
        "features.popularity_daily",
        "features.feedback_daily",
        "clean.items",
    ),
    lookback="history",
    owner="machine learning",
    columns=(
        Column("weight", "VARCHAR", "item or impression propensity, logged probability", True),
        Column("measure", "VARCHAR", "balance, calibration, overlap and others", True),
        Column("about", "VARCHAR", "the covariate, the tenth, or all rows", True),
        Column("before", "DOUBLE", "the same without weights, or before clipping"),
        Column("value", "DOUBLE", "what was found", True),
        Column("verdict", "VARCHAR", "pass, warn or fail", True),
        Column("sentence", "VARCHAR", "what that means", True),
        _DS,
    ),
)

TABLES = (EXAMPLES, HOLDOUT, METRICS, EPOCHS, POLICY_VALUES, PROPENSITY_DIAGNOSTICS)

"""ops.*: what happened. Wall time stands only here."""

from expectations.catalogue import Column, Table

_RUN = Column("run_id", "VARCHAR", "ops.nights.run_id", True)
_DS = Column("ds", "DATE", "date of the night", True)

FILES = Table(
    name="ops.files",
    kind="log",
    grain=(
        "one delivery of one file, as it was read first; n_read = n_clean + n_duplicate + "
        "n_quarantined, and later moves stand in ops.row_moves"
    ),
    key=("file_id",),
    sort_by=("path", "ingested_at"),
    reads=("landing",),
    columns=(
        Column("file_id", "VARCHAR", "hash of dataset, path, content and snapshot date", True),
        Column("dataset", "VARCHAR", "events, impressions, items or users", True),
        Column("path", "VARCHAR", "path below the landing folder", True),
        Column("content_hash", "VARCHAR", "SHA-256 of the bytes", True),
        Column("n_bytes", "BIGINT", "size on disk", True),
        Column("modified_at", "TIMESTAMPTZ", "the file's own time", True),
        Column("arrived_at", "TIMESTAMPTZ", "delivery time that the mapping gives", True),
        Column("state", "VARCHAR", "ingested, repeated, refused or withdrawn", True),
        Column("reason", "VARCHAR", "why it was refused or is a repetition"),
        Column("n_read", "BIGINT", "records; blank and header lines are none", True),
        Column("n_clean", "BIGINT", "records that went into a clean table", True),
        Column("n_duplicate", "BIGINT", "exact duplicates that were dropped", True),
        Column("n_quarantined", "BIGINT", "records that went to ops.quarantine", True),
        Column("first_ds", "DATE", "first date of occurrence in the file; null: no clean record"),
        Column("last_ds", "DATE", "last date of occurrence in the file; null: no clean record"),
        Column("ingested_at", "TIMESTAMPTZ", "when", True),
        Column("mapping_hash", "VARCHAR", "hash of the mapping that it was read with last", True),
        Column("key_id", "VARCHAR", "which key made its users pseudonyms; null: none"),
        _RUN,
        Column("ds", "DATE", "UTC date of delivery", True),
    ),
)

QUARANTINE = Table(
    name="ops.quarantine",
    kind="log",
    grain="one record that did not fit",
    key=("file_id", "line"),
    sort_by=("file_id", "line"),
    reads=("landing",),
    columns=(
        Column("file_id", "VARCHAR", "ops.files.file_id", True),
        Column("dataset", "VARCHAR", "events, impressions, items or users", True),
        Column("path", "VARCHAR", "path below the landing folder", True),
        Column("line", "BIGINT", "line in the file, the first is 1", True),
        Column("reason", "VARCHAR", "what did not fit, and which field", True),
        Column("raw", "VARCHAR", "its text, to 500 characters; null: pseudonyms", is_pii=True),
        Column("first_seen_at", "TIMESTAMPTZ", "when it was first read so", True),
        Column("ds", "DATE", "UTC date of delivery", True),
    ),
)

ROW_MOVES = Table(
    name="ops.row_moves",
    kind="log",
    grain="records of one file that went from one place to another after it was accounted for",
    key=("file_id", "moved_at", "from_place", "to_place"),
    sort_by=("moved_at", "file_id"),
    columns=(
        Column("file_id", "VARCHAR", "ops.files.file_id", True),
        Column("dataset", "VARCHAR", "events, impressions, items or users", True),
        Column("path", "VARCHAR", "path below the landing folder", True),
        Column("from_place", "VARCHAR", "clean, duplicate, quarantined or withdrawn", True),
        Column("to_place", "VARCHAR", "clean, duplicate, quarantined or withdrawn", True),
        Column("n_rows", "BIGINT", "records that moved", True),
        Column("reason", "VARCHAR", "why", True),
        Column("moved_at", "TIMESTAMPTZ", "when", True),
        Column("ds", "DATE", "UTC date of delivery of the file", True),
    ),
)

ACCOUNTS = Table(
    name="ops.accounts",
    kind="view",
    grain="one delivery of one file: where its records are now",
    key=("file_id",),
    reads=("ops.files", "ops.row_moves"),
    columns=(
        Column("file_id", "VARCHAR", "ops.files.file_id", True),
        Column("dataset", "VARCHAR", "events, impressions, items or users", True),
        Column("path", "VARCHAR", "path below the landing folder", True),
        Column("state", "VARCHAR", "as in ops.files", True),
        Column("n_read", "BIGINT", "records", True),
        Column("n_clean", "BIGINT", "records now in a clean table", True),
        Column("n_duplicate", "BIGINT", "records that equal another one now", True),
        Column("n_quarantined", "BIGINT", "records now in ops.quarantine", True),
        Column("n_withdrawn", "BIGINT", "records that were taken back", True),
        Column("ds", "DATE", "UTC date of delivery", True),
    ),
)

COLUMNS = Table(
    name="ops.columns",
    kind="log",
    grain="one raw column in one file",
    key=("file_id", "raw_column", "raw_type"),
    sort_by=("file_id", "raw_column", "raw_type"),
    reads=("landing",),
    columns=(
        Column("file_id", "VARCHAR", "ops.files.file_id", True),
        Column("dataset", "VARCHAR", "events, impressions, items or users", True),
        Column("raw_column", "VARCHAR", "the column's name in the file, to 200 characters", True),
        Column("raw_type", "VARCHAR", "text, number, boolean, time, object, list, null", True),
        Column("is_mapped", "BOOLEAN", "whether the mapping names it", True),
        Column("n_records", "BIGINT", "records that have it so; scaled up from n_looked_at", True),
        Column("n_looked_at", "BIGINT", "records of the file that were looked at for it", True),
        Column("ds", "DATE", "UTC date of delivery", True),
    ),
)

DRIFT = Table(
    name="ops.drift",
    kind="view",
    grain="one raw column that is not as it was on the delivery date before",
    key=("dataset", "ds", "raw_column"),
    reads=("ops.columns",),
    columns=(
        Column("ds", "DATE", "UTC date of delivery", True),
        Column("dataset", "VARCHAR", "events, impressions, items or users", True),
        Column("raw_column", "VARCHAR", "the column's name in the files", True),
        Column("change", "VARCHAR", "new, missing or changed type", True),
        Column("is_mapped", "BOOLEAN", "whether the mapping names it", True),
        Column("types_before", "VARCHAR", "its types on the date before; null: it was not there"),
        Column("types_now", "VARCHAR", "its types on this date; null: it is not there"),
        Column("n_before", "BIGINT", "records that had it on the date before", True),
        Column("n_now", "BIGINT", "records that have it on this date", True),
        Column("ds_before", "DATE", "the delivery date before", True),
    ),
)

BUILDS = Table(
    name="ops.builds",
    kind="log",
    grain="the last build of one partition of one table: what it was made from",
    partition_by=("table_name",),
    key=("table_name", "ds"),
    sort_by=("ds",),
    columns=(
        Column("ds", "DATE", "the partition", True),
        Column("inputs", "VARCHAR", "hash of the files that it was made from", True),
        Column("recipe", "VARCHAR", "hash of its SQL and parameters", True),
        Column("table_version", "BIGINT", "Delta version that holds it", True),
        Column("has_rows", "BOOLEAN", "it is not empty", True),
        Column("built_at", "TIMESTAMPTZ", "when", True),
        Column("table_name", "VARCHAR", "the table", True),
    ),
)

CHECKS = Table(
    name="ops.checks",
    kind="log",
    grain="one expectation on one table in one run, passed ones too",
    key=("run_id", "table_name", "check_id"),
    sort_by=("run_id", "table_name", "check_id"),
    owner="data stewards",
    columns=(
        _RUN,
        Column("table_name", "VARCHAR", "the table", True),
        Column("check_id", "INTEGER", "place in the table's suite, the first is 1", True),
        Column("what", "VARCHAR", "what must hold, in words", True),
        Column("expectation", "VARCHAR", "Great Expectations type", True),
        Column("severity", "VARCHAR", "critical, warning or info", True),
        Column("is_passed", "BOOLEAN", "whether it holds", True),
        Column("observed", "VARCHAR", "what was seen instead, without raw values"),
        Column("n_rows", "BIGINT", "rows looked at"),
        Column("n_unexpected", "BIGINT", "rows that break it"),
        Column("checked_at", "TIMESTAMPTZ", "when", True),
        _DS,
    ),
)

STAGES = Table(
    name="ops.stages",
    kind="log",
    grain="one stage of one run",
    key=("run_id", "stage", "started_at"),
    sort_by=("started_at", "stage"),
    columns=(
        _RUN,
        Column("stage", "VARCHAR", "the stage", True),
        Column("state", "VARCHAR", "done or failed", True),
        Column("n_rows", "BIGINT", "rows written", True),
        Column("n_bytes", "BIGINT", "bytes written", True),
        Column("seconds", "DOUBLE", "wall time", True),
        Column("cpu_seconds", "DOUBLE", "user and system time of the process", True),
        Column("peak_mb", "DOUBLE", "peak resident memory during the stage, MiB", True),
        Column("pins", "VARCHAR[]", "tables read and written, as name@version", True),
        Column("started_at", "TIMESTAMPTZ", "when", True),
        _DS,
    ),
)

NIGHTS = Table(
    name="ops.nights",
    kind="log",
    grain="one run of a night that ended; one that died is noted by who finds that it did",
    key=("run_id",),
    sort_by=("ended_at", "run_id"),
    columns=(
        _RUN,
        Column("outcome", "VARCHAR", "published, kept, held, failed or died", True),
        Column("reason", "VARCHAR", "one sentence", True),
        Column("release_id", "VARCHAR", "the release, where one was made"),
        Column("started_at", "TIMESTAMPTZ", "when", True),
        Column("ended_at", "TIMESTAMPTZ", "when; died: when it was last heard of", True),
        _DS,
    ),
)

LEASES = Table(
    name="ops.leases",
    kind="state",
    grain="one run that holds one place under a name, until it gives it back or its time is over",
    partition_by=("name",),
    key=("name", "run_id"),
    sort_by=("taken_at", "run_id"),
    columns=(
        _RUN,
        Column("what", "VARCHAR", "what the run does, in words", True),
        Column("host", "VARCHAR", "the machine it runs on", True),
        Column("pid", "BIGINT", "its process there", True),
        Column(
            "process", "VARCHAR", "boot, pid namespace and start of that process; empty: not told"
        ),
        Column("taken_at", "TIMESTAMPTZ", "when it took the place", True),
        Column("renewed_at", "TIMESTAMPTZ", "when it last said that it lives", True),
        Column("expires_at", "TIMESTAMPTZ", "when it counts as dead unless it says so again", True),
        Column("name", "VARCHAR", "what is held, such as: night 2026-01-25", True),
    ),
)

MODELS = Table(
    name="ops.models",
    kind="log",
    grain="one version of one model that a release was made with",
    key=("release_id", "model"),
    sort_by=("release_id", "model"),
    owner="machine learning",
    columns=(
        Column("release_id", "VARCHAR", "the release", True),
        Column("model", "VARCHAR", "name in the registry", True),
        Column("model_version", "VARCHAR", "content hash; its folder under models/", True),
        Column("config", "VARCHAR", "its settings, as JSON", True),
        Column("seed", "BIGINT", "of its first weights, samples and dropout", True),
        Column("recall", "DOUBLE", "Recall@20 of the same model up to the cut, over users"),
        Column("ndcg", "DOUBLE", "NDCG@20 of the same; all numbers are in train.metrics"),
        Column("n_users", "BIGINT", "users that it learnt from", True),
        Column("n_items", "BIGINT", "items that it learnt from", True),
        Column("n_epochs", "INTEGER", "passes made; 0 for a closed form", True),
        Column("n_parts", "INTEGER", "parts of a batch: more than 1 where memory ran out", True),
        Column("is_warm_start", "BOOLEAN", "it began at weights of an earlier version", True),
        Column("began_at", "VARCHAR", "that version"),
        Column("pins", "VARCHAR[]", "tables it was made from, as name@version", True),
        Column("python", "VARCHAR", "version", True),
        Column("torch", "VARCHAR", "version", True),
        Column("device", "VARCHAR", "cpu, or the name of the GPU", True),
        Column("seconds", "DOUBLE", "wall time of training and measuring it", True),
        Column("kept_at", "TIMESTAMPTZ", "when", True),
        _DS,
    ),
)

CHAMPIONS = Table(
    name="ops.champions",
    kind="view",
    grain="one time in which the lists of one model version were served",
    key=("served_since",),
    reads=("serve.publications", "ops.models"),
    owner="machine learning",
    columns=(
        Column("model", "VARCHAR", "name in the registry", True),
        Column("model_version", "VARCHAR", "ops.models.model_version; null: kept before that was"),
        Column("release_id", "VARCHAR", "the release", True),
        Column("ds", "DATE", "date of its night", True),
        Column("action", "VARCHAR", "publish, force or rollback", True),
        Column("served_since", "TIMESTAMPTZ", "when it became the champion", True),
        Column("served_until", "TIMESTAMPTZ", "when another did; null: it is the champion"),
    ),
)

TABLES = (
    FILES,
    QUARANTINE,
    ROW_MOVES,
    ACCOUNTS,
    COLUMNS,
    DRIFT,
    BUILDS,
    CHECKS,
    STAGES,
    NIGHTS,
    LEASES,
    MODELS,
    CHAMPIONS,
)

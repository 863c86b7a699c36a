"""clean.*: what landed, typed, in UTC, without exact duplicates."""

from expectations.catalogue import Column, Table

_CLOCKS = (
    Column("occurred_at", "TIMESTAMPTZ", "when it happened, source's clock", True, is_varied=True),
    Column("arrived_at", "TIMESTAMPTZ", "when it was delivered to us", required=True),
    Column("superseded_at", "TIMESTAMPTZ", "arrival of a later delivery of the same id, else null"),
)
_EXTRA = Column("extra", "VARCHAR", "JSON of what no mapping names, if kept", is_pii=True)
_FILE = Column("file_id", "VARCHAR", "ops.files.file_id it came from", required=True)
_DS = Column("ds", "DATE", "UTC date of occurrence", required=True)
_SNAPSHOT_DS = Column("ds", "DATE", "UTC date of the snapshot", required=True)

EVENTS = Table(
    name="clean.events",
    kind="increment",
    grain="one delivery of one event",
    reads=("landing",),
    columns=(
        Column("event_id", "VARCHAR", "the shop's id, else md5 of its key", True, is_varied=True),
        Column("user_id", "VARCHAR", "who", True, is_person=True, is_varied=True),
        Column("item_id", "VARCHAR", "what", True, is_varied=True),
        Column("behaviour", "VARCHAR", "click, view, favourite, cart, purchase, ...", True),
        *_CLOCKS,
        Column("request_id", "VARCHAR", "request that led here; null for search", is_varied=True),
        Column("session_id", "VARCHAR", "session, if the source has one", is_varied=True),
        Column(
            "value", "DOUBLE", "price, rating or the like, in the source's unit", is_varied=True
        ),
        _EXTRA,
        _FILE,
        _DS,
    ),
)

IMPRESSIONS = Table(
    name="clean.impressions",
    kind="increment",
    grain="one delivery of one item in one request, shown or logged as a candidate",
    reads=("landing",),
    columns=(
        Column("impression_id", "VARCHAR", "the shop's id, else md5 of key", True, is_varied=True),
        Column("request_id", "VARCHAR", "the request that it answered", True, is_varied=True),
        Column("user_id", "VARCHAR", "who", True, is_person=True, is_varied=True),
        Column("item_id", "VARCHAR", "what", True, is_varied=True),
        Column("is_shown", "BOOLEAN", "false: an eligible item that was not shown", True),
        Column("position", "INTEGER", "1 is the first; null where not shown"),
        Column("policy", "VARCHAR", "the ranking policy that filled the slot"),
        Column("policy_version", "VARCHAR", "its version"),
        Column("policy_score", "DOUBLE", "its score for this item", is_varied=True),
        Column("p_logged", "DOUBLE", "logged probability of this item at this position, 0 to 1"),
        *_CLOCKS,
        _EXTRA,
        _FILE,
        _DS,
    ),
)

ITEMS = Table(
    name="clean.items",
    kind="snapshot",
    grain="one item in the catalogue of one date",
    key=("item_id", "ds"),
    sort_by=("item_id",),
    reads=("landing", "clean.events"),
    lookback="all",
    columns=(
        Column("item_id", "VARCHAR", "what", True),
        Column("category", "VARCHAR", "category"),
        Column("product_type", "VARCHAR", "type within the category"),
        Column("brand", "VARCHAR", "brand"),
        Column("title", "VARCHAR", "title"),
        Column("price", "DOUBLE", "price in the shop's currency"),
        Column("is_in_stock", "BOOLEAN", "may be sold; true where the source does not say", True),
        Column("available_from", "DATE", "first date on sale; null: always"),
        Column("arrived_at", "TIMESTAMPTZ", "when it was delivered to us", True),
        _EXTRA,
        Column("file_id", "VARCHAR", "ops.files.file_id, or 'derived' from events", True),
        _SNAPSHOT_DS,
    ),
)

USERS = Table(
    name="clean.users",
    kind="snapshot",
    grain="one user known on one date",
    key=("user_id", "ds"),
    sort_by=("user_id",),
    reads=("landing", "clean.events"),
    lookback="all",
    columns=(
        Column("user_id", "VARCHAR", "who", True, is_person=True, is_varied=True),
        Column("age_band", "VARCHAR", "age band"),
        Column("country", "VARCHAR", "country"),
        Column("joined_on", "DATE", "first known date"),
        Column("arrived_at", "TIMESTAMPTZ", "when it was delivered to us", True),
        _EXTRA,
        Column("file_id", "VARCHAR", "ops.files.file_id, or 'derived' from events", True),
        _SNAPSHOT_DS,
    ),
)

TABLES = (EVENTS, IMPRESSIONS, ITEMS, USERS)

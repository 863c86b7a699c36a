"""Which columns the files have, of which type, in how many records; and what the contract says."""

from collections.abc import Sequence
from typing import Any

from expectations.catalogue import catalogue
from tasks.errors import ContractError
from tasks.ingest.deliveries import Delivery
from tasks.ingest.formats import Layout
from tasks.ingest.lines import PACKED
from tasks.ingest.readers import lines_sql, named_columns
from tasks.ingest.stage import Batch
from tasks.lake.literals import identifier, literal
from tasks.lake.session import Session
from tasks.mapping import OF_TIME, REQUIRED, Events, Impressions, Source, path_parts

LOOKED_AT = 24 * 2**20  # bytes of JSON lines in which a batch's columns are counted exactly
MOST_COLUMNS = 1_000  # of one file that are kept
_PACKED_TIMES = 8  # what compression usually saves
_NAME = 200  # characters
_SEEN = "file_id VARCHAR, raw_column VARCHAR, raw_type VARCHAR, n BIGINT, n_looked_at BIGINT"
_JSON_TYPE = """CASE coalesce(json_type(field.value), 'NULL') WHEN 'VARCHAR' THEN 'text'
WHEN 'BOOLEAN' THEN 'boolean' WHEN 'OBJECT' THEN 'object' WHEN 'ARRAY' THEN 'list'
WHEN 'NULL' THEN 'null' ELSE 'number' END"""
UNNAMED = "(not named by the mapping)"


def step(batch: Batch) -> int:
    """Of how many records of JSON lines one is looked at.

    All in little data, and where the contract cares about new columns.
    """
    if if_new(batch.dataset, batch.source) != "ignore":
        return 1
    n_bytes = sum(
        file.file.n_bytes * (_PACKED_TIMES if batch.file(file).suffix in PACKED else 1)
        for file in batch.fresh
    )
    return max(1, round(n_bytes / LOOKED_AT))


def see_columns(s: Session, batch: Batch) -> None:
    """Make the table `seen` of a staged batch: raw columns by file, with types and counts."""
    s.con.execute(f"CREATE OR REPLACE TEMP TABLE seen ({_SEEN})")
    s.con.execute(f"INSERT INTO seen {_seen_in_json(batch.how.step)}")
    groups: dict[Layout, list[Delivery]] = {}
    for delivery in batch.fresh:
        if delivery.file_id not in batch.refused:
            groups.setdefault(batch.layouts[delivery.file_id], []).append(delivery)
    for layout, files in groups.items():
        if layout.format != "jsonl":
            s.con.execute(f"INSERT INTO seen {_seen_in_columns(layout, files)}")
    if batch.how.pseudonymises:
        # A file without its header has ids for column names, and a record may have one for a key.
        named = literal(sorted(named_columns(batch.source)))
        s.con.execute(
            f"UPDATE seen SET raw_column = '{UNNAMED}' WHERE NOT list_contains({named}, raw_column)"
        )


def _seen_in_json(step: int) -> str:
    return f"""
WITH looked_at AS (SELECT file_id, looked_at AS line FROM staged WHERE looked_at IS NOT NULL),
n_lines AS (SELECT file_id, count(*) AS n FROM looked_at GROUP BY file_id),
parsed AS (
    SELECT file_id, line, from_json(line, '"MAP(VARCHAR, JSON)"') AS map FROM looked_at
),
-- A record that has a key twice is no map: its keys are looked up one by one.
fields AS (
    SELECT file_id, unnest(CASE WHEN map IS NOT NULL THEN map_entries(map) ELSE list_transform(
        list_distinct(json_keys(line))[:{MOST_COLUMNS}],
        lambda key: {{key: key, value: json_extract(
            line, '/' || replace(replace(key, '~', '~0'), '/', '~1')
        )}}
    ) END) AS field
    FROM parsed
),
counted AS (
    SELECT file_id, left(field.key, {_NAME}) AS raw_column, {_JSON_TYPE} AS raw_type,
        count(*) AS n
    FROM fields GROUP BY ALL
)
SELECT file_id, raw_column, raw_type, counted.n * {step}, n_lines.n
FROM counted INNER JOIN n_lines USING (file_id)
QUALIFY row_number() OVER (PARTITION BY file_id ORDER BY counted.n DESC, raw_column, raw_type)
    <= {MOST_COLUMNS}"""


def _seen_in_columns(layout: Layout, files: Sequence[Delivery]) -> str:
    kinds = ", ".join(f"({literal(name)}, {literal(_type(kind))})" for name, kind in layout.columns)
    listed = literal([file.file_id for file in files])
    return f"""
WITH n_rows AS (
    SELECT delivery.file_id, count(staged.file_id) AS n
    FROM delivery LEFT JOIN staged USING (file_id)
    WHERE list_contains({listed}, delivery.file_id) GROUP BY delivery.file_id
)
SELECT file_id, left(name, {_NAME}), kind, n, n
FROM n_rows CROSS JOIN (SELECT * FROM (VALUES {kinds}) AS t (name, kind) LIMIT {MOST_COLUMNS})"""


def _type(kind: str) -> str:
    """A Parquet type in the words of JSON."""
    if kind.endswith("]"):
        return "list"
    if kind.startswith(("STRUCT", "MAP", "UNION")):
        return "object"
    if kind.startswith(("TIMESTAMP", "DATE", "TIME")):
        return "time"
    if kind.startswith(("DECIMAL", "DOUBLE", "FLOAT", "REAL")) or "INT" in kind:
        return "number"
    return "boolean" if kind == "BOOLEAN" else "text"


def if_new(dataset: str, source: Source) -> str:
    """What the contract says of a column that the mapping neither names nor ignores."""
    return source.contract.new or catalogue()[f"clean.{dataset}"].if_new


def hold_to_contract(s: Session, batch: Batch) -> dict[str, tuple[str, ...]]:
    """Compare what was staged with the contract.

    Returns the raw columns whose absence sends the records of a file (by file_id) to quarantine.
    Raises ContractError where the contract stops.
    """
    broken = _new_columns(s, batch) + _changed_types(s, batch)
    absent: dict[str, tuple[str, ...]] = {}
    for name, column in _optional(batch).items():
        missing = _if_missing(batch, name)
        if missing == "null":
            continue
        for delivery in _files_without(s, batch, name, column):
            if missing == "stop":
                broken.append(f"{delivery.file.path} has no column {column} ({name})")
            else:
                absent[delivery.file_id] = (*absent.get(delivery.file_id, ()), column)
    if broken:
        raise ContractError(
            f"the contract of {batch.dataset} stops the night: " + "; ".join(broken[:10]),
            where=f"[{batch.dataset}] of the mapping; expectations/tables/clean.py",
            unchanged=f"clean.{batch.dataset} was not changed; what was served stays served",
            fix=f"mend the files or the mapping, or set [{batch.dataset}.contract] to let it pass",
        )
    return absent


def _new_columns(s: Session, batch: Batch) -> list[str]:
    if if_new(batch.dataset, batch.source) != "stop":
        return []
    named = literal(sorted(named_columns(batch.source)))
    rows = s.rows(
        "SELECT raw_column, sum(n), count(DISTINCT file_id) FROM seen "
        f"WHERE NOT list_contains({named}, raw_column) GROUP BY 1 ORDER BY 1"
    )
    return [f"new column {name} in {n} record(s) of {files} file(s)" for name, n, files in rows]


def _changed_types(s: Session, batch: Batch) -> list[str]:
    """Values that are not of their field's type, where the contract stops for them."""
    broken = []
    for name, column in _mapped(batch.source).items():
        if _if_changed(batch, name) == "stop":
            start = literal(f"wrong type: {column} is no ")
            n, files = s.rows(
                "SELECT count(*), count(DISTINCT file_id) FROM staged "
                f"WHERE starts_with(misfit, {start})"
            )[0]
            if n:
                broken.append(f"{column} changed its type in {n} record(s) of {files} file(s)")
    return broken


def _if_missing(batch: Batch, name: str) -> str:
    return batch.source.contract.missing.get(name) or _column(batch, name).if_missing


def _if_changed(batch: Batch, name: str) -> str:
    return batch.source.contract.changed.get(name) or _column(batch, name).if_changed


def _column(batch: Batch, name: str) -> Any:
    columns = catalogue()[f"clean.{batch.dataset}"].columns
    return next(column for column in columns if column.name == name)


def _mapped(source: Source) -> dict[str, str]:
    """Our fields and the raw columns that they come from."""
    found = dict(source.columns)
    if isinstance(source, Events | Impressions):
        found["occurred_at"] = source.time.column
    if isinstance(source, Events) and source.behaviour.column is not None:
        found["behaviour"] = source.behaviour.column
    return found


def _optional(batch: Batch) -> dict[str, str]:
    """The same, without fields whose absence is always a misfit."""
    always = {*REQUIRED[batch.dataset], *OF_TIME.get(batch.dataset, ())}
    return {name: column for name, column in _mapped(batch.source).items() if name not in always}


def _files_without(s: Session, batch: Batch, name: str, column: str) -> list[Delivery]:
    """Files with records, none of which has the column."""
    rows = s.rows(f"SELECT file_id, count({identifier(name)}) FROM staged GROUP BY file_id")
    empty = {file_id for file_id, n in rows if n == 0}
    return [
        delivery
        for delivery in batch.fresh
        if delivery.file_id in empty and _lacks(s, batch, delivery, column)
    ]


def _lacks(s: Session, batch: Batch, delivery: Delivery, column: str) -> bool:
    layout = batch.layouts[delivery.file_id]
    if layout.format != "jsonl":
        return path_parts(column)[0] not in layout.names and column not in layout.names
    # A value that is null everywhere is no missing column: look for the key itself.
    read = lines_sql(batch.source, layout, [str(batch.file(delivery))])
    key = literal(path_parts(column)[0])
    has = f"json_valid(line) AND list_contains(json_keys(line), {key})"
    return not s.value(f"SELECT count(*) FROM {read} WHERE {has}")

"""The SQL that reads one dataset's files as the mapping says: typed fields and, per record, a
reason if it does not fit. Nothing is read here; the SQL is run by `tasks.ingest.load`.

Our own columns beside the raw ones are called "# file", "# n" and so on, so that a shop may call
its columns as it likes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.lake.literals import identifier, literal
from tasks.mapping import FIELDS, REQUIRED, Behaviour, Events, Impressions, Source, Time

# A date in a path has no zone: a file "of the day" may reach as far as clocks differ on earth.
FUTURE_TOLERANCE = {"path": "INTERVAL 14 HOUR", "clock": "INTERVAL 1 HOUR"}
_MICROSECONDS = {"s": 1e6, "ms": 1e3, "us": 1.0}
_END_OF_TIME_US = 253_402_300_799_000_000  # 9999-12-31, where dates end in most tools
_FIRST_DATE, _LAST_DATE = "DATE '0001-01-01'", "DATE '9999-12-31'"
_MAX_INTEGER = 2_147_483_647
_GLOB = re.compile(r"[\[*?]")


@dataclass(frozen=True)
class Field:
    """One field: the SQL of its value, and (reason, condition) for each way not to fit."""

    name: str
    value: str
    misfits: tuple[tuple[str, str], ...]


def landed_sql(dataset: str, source: Source, files: Sequence[str], names: Sequence[str]) -> str:
    """A SELECT of `landed` records: file_id, n, record, fields, arrived_at, misfit.

    `names` are the raw columns of `files`. `n` counts records through all the files in order,
    blank lines too, whose misfit is the empty text. The SELECT reads `delivery` (filename,
    file_id, arrived_at), which the caller makes.
    """
    records = _json_records if source.format == "jsonl" else _csv_records
    fields = _fields(dataset, source)
    values = ",\n    ".join(f"{field.value} AS {identifier(field.name)}" for field in fields)
    misfits = [misfit for field in fields for misfit in field.misfits]
    return f"""WITH records AS (
    SELECT row_number() OVER () AS "# n", * FROM ({records(source, files, names)})
),
delivered AS (
    SELECT records.*, delivery.file_id AS "# file_id", delivery.arrived_at AS "# arrived_at"
    FROM records INNER JOIN delivery ON records."# file" = delivery.filename
),
typed AS (SELECT *{_typed(source)} FROM delivered)
SELECT "# file_id" AS file_id, "# n" AS n, "# record" AS record,
    {values},
    {_arrived(source)} AS arrived_at,
    {_reason(source, misfits)} AS misfit
FROM typed"""


def landed_columns(dataset: str) -> dict[str, str]:
    """The columns of `landed` and their types."""
    columns: dict[str, str] = {"file_id": "VARCHAR", "n": "BIGINT", "record": "VARCHAR"}
    columns |= FIELDS[dataset]
    if dataset in ("events", "impressions"):
        columns["occurred_at"] = "TIMESTAMPTZ"
    if dataset == "events":
        columns["behaviour"] = "VARCHAR"
    return columns | {"arrived_at": "TIMESTAMPTZ", "misfit": "VARCHAR"}


def raw_columns(source: Source) -> list[str]:
    """The raw columns that the mapping names, in order, each once."""
    named = [*source.columns.values(), *source.types]
    if isinstance(source, Events | Impressions):
        named.append(source.time.column)
    if isinstance(source, Events) and source.behaviour.column is not None:
        named.append(source.behaviour.column)
    if source.arrived.column is not None:
        named.append(source.arrived.column.column)
    return list(dict.fromkeys(named))


def _json_records(source: Source, files: Sequence[str], names: Sequence[str]) -> str:
    shape = "{" + ", ".join(f'"{_json_text(name)}": "VARCHAR"' for name in names) + "}"
    columns = ", ".join(f"j.{identifier(name)} AS {identifier(name)}" for name in names)
    return f"""SELECT "# file", "# record", j IS NULL AS "# broken", {columns}
FROM (
    SELECT "# file", CASE WHEN trim(line) <> '' THEN line END AS "# record",
        CASE WHEN json_valid(line) AND json_type(line) = 'OBJECT'
            THEN from_json(line, {literal(shape)}) END AS j
    FROM read_csv({_paths(files)}, columns = {{line: 'VARCHAR'}}, delim = chr(1),
        quote = '', escape = '', header = false, auto_detect = false, filename = '# file',
        encoding = {literal(source.encoding)}, hive_partitioning = false, store_rejects = true)
)"""


def _csv_records(source: Source, files: Sequence[str], names: Sequence[str]) -> str:
    columns = ", ".join(f"{identifier(name)}: 'VARCHAR'" for name in names)
    used = ", ".join(identifier(name) for name in raw_columns(source))
    joined = ", ".join(f"coalesce({identifier(name)}, '')" for name in names)
    return f"""SELECT "# file", nullif(concat_ws({literal(source.delimiter)}, {joined}), '')
    AS "# record", false AS "# broken", {used}
FROM read_csv({_paths(files)}, columns = {{{columns}}}, delim = {literal(source.delimiter)},
    quote = {literal(source.quote)}, escape = {literal(source.quote)},
    header = {str(source.header).lower()}, auto_detect = false, filename = '# file',
    encoding = {literal(source.encoding)}, hive_partitioning = false, store_rejects = true)"""


def _paths(files: Sequence[str]) -> str:
    """Paths as they are: DuckDB would take brackets, stars and question marks for patterns."""
    return literal([_GLOB.sub(r"[\g<0>]", file) for file in files])


def _json_text(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')


def _typed(source: Source) -> str:
    """Raw columns under their own names, cast where the mapping gives a type; texts kept too."""
    if not source.types:
        return ""
    cast = ", ".join(
        f"try_cast({identifier(name)} AS {kind}) AS {identifier(name)}"
        for name, kind in source.types.items()
    )
    texts = ", ".join(
        f"{identifier(name)} AS {identifier('text of ' + name)}" for name in source.types
    )
    return f" REPLACE ({cast}), {texts}"


def _text(source: Source, column: str) -> str:
    return identifier("text of " + column if column in source.types else column)


def _fields(dataset: str, source: Source) -> list[Field]:
    fields = [
        _field(dataset, source, name)
        for name in FIELDS[dataset]
        if name in source.columns or name in source.expressions
    ]
    if isinstance(source, Events | Impressions):
        fields.append(_time_field(source, source.time))
    if isinstance(source, Events):
        fields.append(_behaviour_field(source.behaviour))
    id_name = {"events": "event_id", "impressions": "impression_id"}.get(dataset)
    if id_name is not None:
        fields = _with_id(fields, id_name)
    fields.extend(
        Field(name, f"NULL::{kind}", ())
        for name, kind in FIELDS[dataset].items()
        if name not in {field.name for field in fields}
    )
    return fields


def _with_id(fields: list[Field], id_name: str) -> list[Field]:
    """The shop's id; where there is none, or it is empty, a hash of all the other fields."""
    others = [field for field in fields if field.name != id_name]
    parts = ", ".join(f"coalesce(CAST({field.value} AS VARCHAR), '')" for field in others)
    made = f"md5(concat_ws(chr(31), {parts}))"
    given = [
        Field(id_name, f"coalesce({field.value}, {made})", field.misfits)
        for field in fields
        if field.name == id_name
    ]
    return [*(given or [Field(id_name, made, ())]), *others]


def _field(dataset: str, source: Source, name: str) -> Field:
    kind = FIELDS[dataset][name]
    column = source.columns.get(name)
    label = column if column is not None else name
    text = _text(source, column) if column is not None else f"({source.expressions[name]})"
    if kind == "VARCHAR":
        value = f"nullif(CAST({text} AS VARCHAR), '')"
        misfits = [(f"wrong type: {label} is no text", _is_nested(value))]
    else:
        value = f"try_cast({text} AS {kind})"
        is_lost = f"nullif(CAST({text} AS VARCHAR), '') IS NOT NULL AND {value} IS NULL"
        misfits = [(f"wrong type: {label} is no {kind}", is_lost)]
    if kind == "DOUBLE":
        misfits.append((f"not finite: {label}", f"NOT isfinite({value})"))
    if kind == "DATE":
        outside = f"{value} NOT BETWEEN {_FIRST_DATE} AND {_LAST_DATE}"
        misfits.append((f"out of range: {label} is not in the years 1 to 9999", outside))
    if name in REQUIRED[dataset]:
        misfits.insert(0, (f"missing field: {label}", f"{value} IS NULL"))
    misfits.extend(_ranges(name, value, label))
    return Field(name, value, tuple(misfits))


def _is_nested(value: str) -> str:
    """A JSON object or list where a text belongs; a text that merely begins so is valid."""
    return f"left({value}, 1) IN ('{{', '[') AND json_valid({value})"


def _ranges(name: str, value: str, label: str) -> list[tuple[str, str]]:
    if name == "p_logged":
        return [
            (f"out of range: {label} is not above 0 and at most 1", f"{value} <= 0 OR {value} > 1")
        ]
    if name == "position":
        return [
            (f"out of range: {label} is below 1", f"{value} < 1"),
            (f"out of range: {label} is above {_MAX_INTEGER}", f"{value} > {_MAX_INTEGER}"),
        ]
    return []


def _time_field(source: Source, time: Time) -> Field:
    text = f"nullif({_text(source, time.column)}, '')"
    value = time_sql(text, time)
    arrived = _arrived(source)
    tolerance = FUTURE_TOLERANCE["path" if source.arrived.path is not None else "clock"]
    return Field(
        "occurred_at",
        value,
        (
            (f"missing field: {time.column}", f"{text} IS NULL"),
            (f"wrong type: {time.column} is no time", f"{value} IS NULL"),
            (f"out of range: {time.column} is before 1970", f"epoch({value}) < 0"),
            (
                f"in the future: {time.column} is after the arrival",
                f"{value} > {arrived} + {tolerance}",
            ),
        ),
    )


def time_sql(text: str, time: Time) -> str:
    """SQL of a TIMESTAMPTZ from a text in the given unit and zone; NULL where it is none."""
    if time.unit != "iso":
        number = f"try_cast({text} AS DOUBLE) * {_MICROSECONDS[time.unit]}"
        return (
            f"CASE WHEN abs({number}) <= {_END_OF_TIME_US} "
            f"THEN make_timestamptz(CAST(round({number}) AS BIGINT)) END"
        )
    zone = literal(time.zone)
    if time.format is not None:
        parsed = f"try_strptime({text}, {literal(time.format)})"
        return parsed if "%z" in time.format.lower() else f"timezone({zone}, {parsed})"
    # DuckDB's TIMESTAMP takes any tail (a zone, PM) and drops it: only digits may be local time.
    is_local = f"regexp_full_match({text}, '[0-9/-]+([ T][0-9:.]+)?')"
    closed_up = f"regexp_replace({text}, '([0-9]) ([Z+-][0-9:]*)$', '\\1\\2')"
    instant = (
        f"CASE WHEN {is_local} THEN timezone({zone}, try_cast({text} AS TIMESTAMP)) "
        f"ELSE try_cast({closed_up} AS TIMESTAMPTZ) END"
    )
    return f"CASE WHEN epoch_us({instant}) <= {_END_OF_TIME_US} THEN {instant} END"


def _arrived(source: Source) -> str:
    column = source.arrived.column
    if column is None:
        return '"# arrived_at"'
    text = f"nullif({_text(source, column.column)}, '')"
    return f'coalesce({time_sql(text, column)}, "# arrived_at")'


def _behaviour_field(behaviour: Behaviour) -> Field:
    if behaviour.always is not None:
        return Field("behaviour", literal(behaviour.always), ())
    if behaviour.column is None:
        cases = "".join(f" WHEN {r.when} THEN {literal(r.behaviour)}" for r in behaviour.rules)
        value = f"CASE{cases} END"
        return Field(
            "behaviour", value, (("unknown behaviour: no rule holds", f"{value} IS NULL"),)
        )
    column = identifier(behaviour.column)
    if behaviour.rules:
        cases = "".join(f" WHEN {r.when} THEN {literal(r.behaviour)}" for r in behaviour.rules)
    else:
        cases = "".join(
            f" WHEN {column} = {literal(raw)} THEN {literal(name)}"
            for raw, name in behaviour.values.items()
        )
    value = f"CASE{cases} END"
    return Field(
        "behaviour",
        value,
        (
            (f"missing field: {behaviour.column}", f"{column} IS NULL"),
            (f"unknown behaviour: {behaviour.column}", f"{value} IS NULL"),
        ),
    )


def _reason(source: Source, misfits: list[tuple[str, str]]) -> str:
    broken = [("", '"# record" IS NULL'), ("not a JSON object", '"# broken"')]
    types = [
        (
            f"wrong type: {name} is no {kind}",
            f"nullif({_text(source, name)}, '') IS NOT NULL AND {identifier(name)} IS NULL",
        )
        for name, kind in source.types.items()
    ]
    cases = "".join(
        f"\n        WHEN {condition} THEN {literal(reason)}"
        for reason, condition in [*broken, *types, *misfits]
    )
    return f"CASE{cases} END" if cases else "NULL::VARCHAR"

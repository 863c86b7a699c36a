"""The SQL that judges one dataset's records as the mapping says: typed fields and, per record, a
reason if it does not fit. Nothing is read here; the SQL is run by `tasks.ingest.stage`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tasks.ingest.formats import Layout
from tasks.ingest.pseudonyms import pseudonym_sql
from tasks.ingest.readers import How, records_sql
from tasks.lake.literals import identifier, literal
from tasks.mapping import (
    FIELDS,
    REQUIRED,
    Behaviour,
    Events,
    Impressions,
    Source,
    Time,
)

# A date in a path has no zone: a file "of the day" may reach as far as clocks differ on earth.
FUTURE_TOLERANCE = {"path": "INTERVAL 14 HOUR", "clock": "INTERVAL 1 HOUR"}
_MICROSECONDS = {"s": 1e6, "ms": 1e3, "us": 1.0}
_END_OF_TIME_US = 253_402_300_799_000_000  # 9999-12-31, where dates end in most tools
_FIRST_DATE, _LAST_DATE = "DATE '0001-01-01'", "DATE '9999-12-31'"
_MAX_INTEGER = 2_147_483_647


@dataclass(frozen=True)
class Field:
    """One field: the SQL of its value, (reason, condition) for each way not to fit, and of what
    is kept where that is not the value. Conditions and `kept` see values under `column`.
    """

    name: str
    value: str
    misfits: tuple[tuple[str, str], ...]
    kept: str | None = None

    @property
    def column(self) -> str:
        """The value's column, between being made and being judged."""
        return _column(self.name)

    @property
    def output(self) -> str:
        """What goes into the clean table."""
        return self.kept or self.column


def _column(name: str) -> str:
    return identifier(f"# field {name}")


def landed_sql(dataset: str, source: Source, layout: Layout, files: Sequence[str], how: How) -> str:
    """A SELECT of `landed` records of files of one layout; blank lines are none.

    It reads `delivery` (filename, file_id, arrived_at, snapshot_ds), which the caller makes.
    """
    fields = _fields(dataset, source, how)
    values = ",\n    ".join(f"{each.value} AS {each.column}" for each in fields)
    outputs = ",\n    ".join(f"{each.output} AS {identifier(each.name)}" for each in fields)
    misfits = [misfit for each in fields for misfit in each.misfits]
    day = "CAST(occurred_at AS DATE)" if dataset in ("events", "impressions") else "snapshot_ds"
    return f"""WITH delivered AS (
    SELECT records.*, delivery.file_id AS "# file_id", delivery.arrived_at AS "# arrived_at",
        delivery.snapshot_ds AS "# snapshot_ds"
    FROM ({records_sql(source, layout, files, how)}) AS records
    INNER JOIN delivery ON records."# file" = delivery.filename
),
typed AS (SELECT *{_typed(source)} FROM delivered),
valued AS (SELECT *, {_arrived(source)} AS "# arrived",
    {values}
    FROM typed
),
judged AS (
    SELECT "# file_id" AS file_id, "# record" AS record, "# snapshot_ds" AS snapshot_ds,
    {outputs},
    "# extra" AS extra,
    "# looked_at" AS looked_at,
    "# arrived" AS arrived_at,
    {_reason(source, [*_absent(how), *misfits])} AS misfit
    FROM valued
)
SELECT * EXCLUDE (record, snapshot_ds), if(misfit IS NULL, NULL, record) AS record,
    if(misfit IS NULL, {day}, NULL) AS ds
FROM judged"""


def _absent(how: How) -> list[tuple[str, str]]:
    return [(f"missing column: {name}", "true") for name in how.absent]


def landed_columns(dataset: str) -> dict[str, str]:
    """The columns of `landed` and their types.

    `record` is a hash of a misfit's text, by which its line is found; `extra` holds as JSON what
    the mapping does not name, where the contract keeps it.
    """
    columns: dict[str, str] = {"file_id": "VARCHAR", **FIELDS[dataset]}
    if dataset in ("events", "impressions"):
        columns["occurred_at"] = "TIMESTAMPTZ"
    if dataset == "events":
        columns["behaviour"] = "VARCHAR"
    ours = {"arrived_at": "TIMESTAMPTZ", "misfit": "VARCHAR", "record": "UBIGINT", "ds": "DATE"}
    return columns | {"extra": "VARCHAR", "looked_at": "VARCHAR"} | ours


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


def _fields(dataset: str, source: Source, how: How) -> list[Field]:
    fields = [
        _field(dataset, source, name)
        for name in FIELDS[dataset]
        if name in source.columns or name in source.expressions
    ]
    if isinstance(source, Events | Impressions):
        fields.append(_time_field(source, source.time))
    if isinstance(source, Events):
        fields.append(_behaviour_field(source.behaviour))
    if how.pseudonymises:
        fields = [_pseudonymous(each) if each.name == "user_id" else each for each in fields]
    if isinstance(source, Events | Impressions):
        fields = _with_id(fields, "event_id" if dataset == "events" else "impression_id", source)
    fields.extend(
        Field(name, f"NULL::{kind}", ())
        for name, kind in FIELDS[dataset].items()
        if name not in {field.name for field in fields}
    )
    return fields


def _pseudonymous(field: Field) -> Field:
    return replace(field, kept=pseudonym_sql(field.column))


def _with_id(fields: list[Field], id_name: str, source: Events | Impressions) -> list[Field]:
    """The shop's id; where there is none, or it is empty, a hash of its key or of all fields."""
    others = [field for field in fields if field.name != id_name]
    hashed = [field for field in others if not source.key or field.name in source.key]
    parts = ", ".join(f"coalesce(CAST({field.output} AS VARCHAR), '')" for field in hashed)
    made = f"md5(concat_ws(chr(31), {parts}))"
    given = [
        replace(field, kept=f"coalesce({field.column}, {made})")
        for field in fields
        if field.name == id_name
    ]
    return [*(given or [Field(id_name, "NULL", (), made)]), *others]


def _field(dataset: str, source: Source, name: str) -> Field:
    kind = FIELDS[dataset][name]
    column = source.columns.get(name)
    label = column if column is not None else name
    text = _text(source, column) if column is not None else f"({source.expressions[name]})"
    value = _column(name)
    if kind == "VARCHAR":
        made = f"nullif(CAST({text} AS VARCHAR), '')"
        misfits = [(f"wrong type: {label} is no text", _is_nested(value))]
    else:
        made = _cast(text, kind)
        is_lost = f"{value} IS NULL AND nullif(CAST({text} AS VARCHAR), '') IS NOT NULL"
        misfits = [(f"wrong type: {label} is no {kind}", is_lost)]
    if kind == "DOUBLE":
        misfits.append((f"not finite: {label}", f"NOT isfinite({value})"))
    if kind == "DATE":
        outside = f"{value} NOT BETWEEN {_FIRST_DATE} AND {_LAST_DATE}"
        misfits.append((f"out of range: {label} is not in the years 1 to 9999", outside))
    if name in REQUIRED[dataset]:
        misfits.insert(0, (f"missing field: {label}", f"{value} IS NULL"))
    misfits.extend(_ranges(name, value, label))
    return Field(name, made, tuple(misfits))


def _cast(text: str, kind: str) -> str:
    """SQL of a typed value; NULL where DuckDB would round, or read 1_0 or the word epoch."""
    text = f"CAST({text} AS VARCHAR)"
    fits = {
        "BIGINT": f"NOT contains({text}, '_') AND try_cast({text} AS DOUBLE) % 1 = 0",
        "DOUBLE": f"NOT contains({text}, '_')",
        "DATE": f"lower(trim({text})) <> 'epoch'",
    }
    cast = f"try_cast({text} AS {kind})"
    return f"CASE WHEN {fits[kind]} THEN {cast} END" if kind in fits else cast


def _is_nested(value: str) -> str:
    """A JSON object or list where a text belongs; a text that merely begins so is valid."""
    return f"(starts_with({value}, '{{') OR starts_with({value}, '[')) AND json_valid({value})"


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
    text = f"nullif(trim({_text(source, time.column)}), '')"
    value = _column("occurred_at")
    tolerance = FUTURE_TOLERANCE["path" if source.arrived.path is not None else "clock"]
    return Field(
        "occurred_at",
        time_sql(text, time),
        (
            (f"missing field: {time.column}", f"{text} IS NULL"),
            (f"wrong type: {time.column} is no time", f"{value} IS NULL"),
            (f"out of range: {time.column} is before 1970", f"epoch({value}) < 0"),
            (
                f"in the future: {time.column} is after the arrival",
                f'{value} > "# arrived" + {tolerance}',
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
        f"WHEN {text} ~ '[0-9].*' THEN try_cast({closed_up} AS TIMESTAMPTZ) END"
    )
    return f"CASE WHEN epoch_us({instant}) <= {_END_OF_TIME_US} THEN {instant} END"


def _arrived(source: Source) -> str:
    column = source.arrived.column
    if column is None:
        return '"# arrived_at"'
    text = f"nullif(trim({_text(source, column.column)}), '')"
    return f'coalesce({time_sql(text, column)}, "# arrived_at")'


def _behaviour_field(behaviour: Behaviour) -> Field:
    value = _column("behaviour")
    if behaviour.always is not None:
        return Field("behaviour", literal(behaviour.always), ())
    if behaviour.column is None:
        cases = "".join(f" WHEN {r.when} THEN {literal(r.behaviour)}" for r in behaviour.rules)
        unknown = (("unknown behaviour: no rule holds", f"{value} IS NULL"),)
        return Field("behaviour", f"CASE{cases} END", unknown)
    column = identifier(behaviour.column)
    if behaviour.rules:
        cases = "".join(f" WHEN {r.when} THEN {literal(r.behaviour)}" for r in behaviour.rules)
    else:
        cases = "".join(
            f" WHEN {column} = {literal(raw)} THEN {literal(name)}"
            for raw, name in behaviour.values.items()
        )
    return Field(
        "behaviour",
        f"CASE{cases} END",
        (
            (f"missing field: {behaviour.column}", f"{column} IS NULL"),
            (f"unknown behaviour: {behaviour.column}", f"{value} IS NULL"),
        ),
    )


def _reason(source: Source, misfits: list[tuple[str, str]]) -> str:
    broken = [("not a JSON object", '"# broken"')]
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

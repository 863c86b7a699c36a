"""The SQL that reads raw files, of any format, as records of text; nothing is judged here.

Our own columns beside the raw ones are called "# file", "# record" and so on, so that a shop may
call its columns as it likes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.ingest.formats import Layout, paths_sql
from tasks.lake.literals import identifier, literal
from tasks.mapping import Events, Impressions, Source, TimeUnit, is_path, path_parts, raw_columns


@dataclass(frozen=True)
class How:
    """What the settings and the contract add to a mapping.

    `absent` are raw columns that the files lack and whose contract sends such files to quarantine.
    Of JSON lines, every `step`-th is kept as it is, for the columns that it has.
    """

    pseudonymises: bool = False
    keeps_extra: bool = False
    absent: tuple[str, ...] = ()
    step: int = 1


def named_columns(source: Source) -> set[str]:
    """The raw columns, of a path the first, that the mapping names or says to ignore."""
    return {path_parts(name)[0] for name in (*raw_columns(source), *source.ignored)}


def records_sql(source: Source, layout: Layout, files: Sequence[str], how: How) -> str:
    """The records of files of one layout: the raw columns that the mapping names, as text.

    Also "# file", "# record" (a hash of the text), "# broken" (no record at all), "# extra" and
    "# looked_at".
    """
    match layout.format:
        case "jsonl":
            return _json_records(source, layout, files, how)
        case "csv":
            read = _read_csv(source, layout, files) + _not_blank(layout)
        case "parquet":
            read = _read_parquet(files)
    return _columnar_records(source, layout, read, how)


def numbered_sql(source: Source, layout: Layout, file: str) -> str:
    """Every record of one file: its number n from 1 on, its text and the hash of it."""
    match layout.format:
        case "jsonl":
            text, record, read = "line", "hash(line)", lines_sql(source, layout, [file])
            number = "row_number() OVER ()"
        case "csv":
            text, record = _csv_text(layout), _row_hash(layout)
            number = "row_number() OVER ()"
            read = _read_csv(source, layout, [file]) + _not_blank(layout)
        case "parquet":
            text = f"CAST(to_json({_packed(layout.names)}) AS VARCHAR)"
            record, number = _row_hash(layout), "row_number() OVER ()"
            read = _read_parquet([file])
    return f"SELECT {number} AS n, {text} AS text, {record} AS record FROM {read}"


def lines_sql(source: Source, layout: Layout, files: Sequence[str]) -> str:
    """A reader of lines as they are, with the rejects kept."""
    # The reader wants a delimiter: U+10FFFF is no character, and no text holds it.
    return f"""read_csv({paths_sql(list(files))}, columns = {{line: 'VARCHAR'}},
        delim = chr(1114111), quote = '', escape = '', header = false, auto_detect = false,
        filename = '# file',
        compression = '{layout.compression}', encoding = {literal(source.encoding)},
        hive_partitioning = false, store_rejects = true, rejects_limit = 0)"""


def _json_records(source: Source, layout: Layout, files: Sequence[str], how: How) -> str:
    names = raw_columns(source)
    columns = "".join(f", j[{n}] AS {identifier(name)}" for n, name in enumerate(names, 1))
    wanted = literal([name if is_path(name) else _pointer(name) for name in names])
    known = dict.fromkeys(sorted(named_columns(source)))
    rest = f"json_merge_patch(line, {literal(json.dumps(known))})"
    blank = "chr(32) || chr(9) || chr(13)"  # trimming costs more than parsing: only where needed
    kept = (
        f"if(j IS NULL, NULL, nullif(CAST({rest} AS VARCHAR), '{{}}'))"
        if how.keeps_extra
        else "NULL"
    )
    return f"""SELECT "# file", hash(line) AS "# record", j IS NULL AS "# broken",
    {kept}::VARCHAR AS "# extra",
    CASE WHEN j IS NOT NULL AND hash(line) % {how.step} = 0 THEN line END AS "# looked_at"{columns}
FROM (
    SELECT "# file", line, CASE
        WHEN json_valid(line)
            AND (starts_with(line, '{{') OR starts_with(ltrim(line, {blank}), '{{'))
        THEN json_extract_string(line, {wanted}) END AS j
    FROM {lines_sql(source, layout, files)}
    WHERE starts_with(line, '{{') OR trim(line, {blank}) <> ''
)"""


def _pointer(name: str) -> str:
    """A JSON pointer to a field of the record, whatever its name."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _columnar_records(source: Source, layout: Layout, read: str, how: How) -> str:
    used = "".join(
        f", {_column_text(source, layout, name)} AS {identifier(name)}"
        for name in raw_columns(source)
    )
    kept = _extra(source, layout) if how.keeps_extra else "NULL::VARCHAR"
    return f"""SELECT "# file", {_row_hash(layout)} AS "# record", false AS "# broken",
    {kept} AS "# extra", NULL::VARCHAR AS "# looked_at"{used}
FROM {read}"""


def _column_text(source: Source, layout: Layout, column: str) -> str:
    if layout.format == "parquet":
        return _parquet_text(source, column, dict(layout.columns))
    return identifier(column) if column in layout.names else "NULL::VARCHAR"


def _not_blank(layout: Layout) -> str:
    """In a file of one column, the reader takes a blank line for a record."""
    if len(layout.names) > 1:
        return ""
    return f"\nWHERE coalesce({identifier(layout.names[0])}, '') <> ''"


def _read_csv(source: Source, layout: Layout, files: Sequence[str]) -> str:
    columns = ", ".join(f"{identifier(name)}: 'VARCHAR'" for name in layout.names)
    return f"""read_csv({paths_sql(list(files))}, columns = {{{columns}}},
    delim = {literal(layout.delimiter)}, quote = {literal(source.quote)},
    escape = {literal(source.quote)}, header = {str(source.header).lower()}, auto_detect = false,
    filename = '# file', compression = '{layout.compression}',
    encoding = {literal(source.encoding)}, hive_partitioning = false, store_rejects = true,
    rejects_limit = 0)"""


def _csv_text(layout: Layout) -> str:
    joined = ", ".join(f"coalesce({identifier(name)}, '')" for name in layout.names)
    return f"concat_ws({literal(layout.delimiter)}, {joined})"


def _row_hash(layout: Layout) -> str:
    return f"hash({', '.join(identifier(name) for name in layout.names)})"


def _extra(source: Source, layout: Layout) -> str:
    """What the mapping does not name, as JSON."""
    named = named_columns(source)
    rest = [name for name in layout.names if name not in named]
    if not rest:
        return "NULL::VARCHAR"
    # A patch of null takes a key away, so columns that are null leave no trace.
    patch = f"json_merge_patch('{{}}', CAST(to_json({_packed(rest)}) AS VARCHAR))"
    return f"nullif(CAST({patch} AS VARCHAR), '{{}}')"


def _packed(names: Sequence[str]) -> str:
    return "struct_pack(" + ", ".join(f"{identifier(n)} := {identifier(n)}" for n in names) + ")"


def _read_parquet(files: Sequence[str]) -> str:
    return f"read_parquet({paths_sql(list(files))}, filename = '# file', hive_partitioning = false)"


def _parquet_text(source: Source, column: str, types: Mapping[str, str]) -> str:
    """A Parquet column as the text that JSON would have had; a timestamp in the mapping's unit."""
    value, kind = identifier(column), types.get(column)
    top, *inner = path_parts(column)
    if kind is None and inner and top in types:
        return f"json_extract_string(to_json({identifier(top)}), {literal('$' + ''.join(inner))})"
    if kind is None:
        return "NULL::VARCHAR"
    if kind.startswith(("STRUCT", "MAP", "UNION")) or kind.endswith("]"):
        return f"CAST(to_json({value}) AS VARCHAR)"
    unit = _unit_of(source, column)
    if kind.startswith("TIMESTAMP") and unit is not None and unit != "iso":
        per_second = {"s": 1_000_000, "ms": 1_000, "us": 1}[unit]
        return f"CAST(epoch_us({value}) / {per_second} AS VARCHAR)"
    if kind == "BLOB":
        return f"coalesce(TRY(decode({value})), CAST({value} AS VARCHAR))"
    if kind in ("DOUBLE", "FLOAT"):
        # Whole numbers beside nulls are floats in many tools: an id of 7 must not become 7.0.
        whole = f"{value} = trunc({value}) AND abs({value}) < 1e15"
        return f"if({whole}, CAST(CAST({value} AS BIGINT) AS VARCHAR), CAST({value} AS VARCHAR))"
    return f"CAST({value} AS VARCHAR)"


def _unit_of(source: Source, column: str) -> TimeUnit | None:
    times = [source.arrived.column]
    if isinstance(source, Events | Impressions):
        times.append(source.time)
    return next((each.unit for each in times if each and each.column == column), None)

"""Records that do not fit: the line of each, and why."""

from collections.abc import Collection
from typing import Any

import pyarrow as pa

from tasks.errors import SourceError
from tasks.ingest.deliveries import Delivery
from tasks.ingest.lines import lines_of
from tasks.ingest.readers import numbered_sql
from tasks.ingest.stage import Batch
from tasks.lake.literals import literal
from tasks.lake.session import Session
from tasks.settings import RAW_TEXT

_COLUMNS = "file_id VARCHAR, line BIGINT, reason VARCHAR, raw VARCHAR"


def find_misfits(s: Session, batch: Batch) -> dict[str, int]:
    """Make the table `misfits` (file_id, line, reason, raw) of a staged batch; how many per file.

    Files are read again for the lines of their misfits, and only those. The raw text is left out
    where ids are pseudonyms. Raises SourceError where a file changed meanwhile.
    """
    s.con.execute(f"CREATE OR REPLACE TEMP TABLE misfits ({_COLUMNS})")
    expected = dict(
        s.rows(
            "SELECT file_id, count(*) FROM ("
            "SELECT file_id FROM staged WHERE misfit IS NOT NULL UNION ALL "
            "SELECT file_id FROM rejected) GROUP BY file_id"
        )
    )
    for delivery in batch.fresh:
        if delivery.file_id in expected and delivery.file_id not in batch.refused:
            _place(s, batch, delivery)
    if batch.how.pseudonymises:
        s.con.execute("UPDATE misfits SET raw = NULL")
    found = dict(s.rows("SELECT file_id, count(*) FROM misfits GROUP BY file_id"))
    for file_id in batch.refused:
        expected.pop(file_id, None)
    if found != expected:
        raise _changed(batch, dict(found.items() ^ expected.items()))
    return found


def _place(s: Session, batch: Batch, delivery: Delivery) -> None:
    layout = batch.layouts[delivery.file_id]
    of_file = {"file_id": delivery.file_id}
    rejected = [
        row[0]
        for row in s.rows("SELECT line FROM rejected WHERE file_id = $file_id ORDER BY 1", of_file)
    ]
    _number(s, batch, delivery)
    if layout.format == "csv":
        last = s.value("SELECT coalesce(max(n), 0) FROM numbered")
        path = batch.file(delivery)
        found = lines_of(path, batch.source, layout.delimiter, set(rejected), last)
        taken: Any = found.taken
        line_of = {row: found.rejected.get(row, row) for row in rejected}
    else:
        taken, line_of = None, {row: row for row in rejected}
    _insert_taken(s, delivery, taken)
    _register(s, "line_of", {"row": list(line_of), "line": list(line_of.values())})
    s.con.execute(
        f"INSERT INTO misfits SELECT rejected.file_id, line_of.line, reason, left(text, {RAW_TEXT})"
        " FROM rejected INNER JOIN line_of ON rejected.line = line_of.row"
        f" WHERE rejected.file_id = {literal(delivery.file_id)}"
    )


def _number(s: Session, batch: Batch, delivery: Delivery) -> None:
    """Make the table `numbered` (n, reason, raw) of the misfits of a file, n counting records."""
    select = numbered_sql(batch.source, batch.layouts[delivery.file_id], str(batch.file(delivery)))
    s.con.execute(
        "CREATE OR REPLACE TEMP TABLE reasons AS SELECT record, min(misfit) AS reason FROM staged "
        f"WHERE file_id = {literal(delivery.file_id)} AND misfit IS NOT NULL GROUP BY record"
    )
    if not s.value("SELECT count(*) FROM reasons"):
        select = "SELECT 0 AS n, '' AS text, 0::UBIGINT AS record WHERE false"
    # The planner cannot know how many records a file has: keep it from holding them all in memory.
    s.con.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
    try:
        s.con.execute(
            "CREATE OR REPLACE TEMP TABLE numbered AS "
            f"SELECT n, reason, left(text, {RAW_TEXT}) AS raw "
            f"FROM ({select}) INNER JOIN reasons USING (record)"
        )
    finally:
        s.con.execute("RESET disabled_optimizers")  # it holds for all of the process


def _insert_taken(s: Session, delivery: Delivery, lines: Any) -> None:
    """Records that the reader took: `lines` of each, or counted between those it rejected."""
    file_id = literal(delivery.file_id)
    if lines is not None:
        _register(s, "places", {"n": range(1, len(lines) + 1), "line": lines})
        s.con.execute(
            f"INSERT INTO misfits SELECT {file_id}, places.line, reason, raw "
            "FROM numbered INNER JOIN places USING (n)"
        )
        return
    # The j-th reject (from 0) on line r stands after r - 1 - j records that were taken.
    s.con.execute(
        f"""INSERT INTO misfits
        WITH ordered AS (
            SELECT line, row_number() OVER (ORDER BY line) AS j FROM rejected
            WHERE file_id = {file_id}
        ),
        before AS (SELECT line - j AS n_taken, max(j) AS n_rejected FROM ordered GROUP BY line - j)
        SELECT {file_id}, numbered.n + coalesce(before.n_rejected, 0), reason, raw
        FROM numbered ASOF LEFT JOIN before ON numbered.n > before.n_taken"""
    )


def _register(s: Session, name: str, columns: dict[str, Any]) -> None:
    s.con.register(
        name, pa.table({key: pa.array(each, pa.int64()) for key, each in columns.items()})
    )


def _changed(batch: Batch, file_ids: Collection[str]) -> SourceError:
    paths = [each.file.path for each in batch.fresh if each.file_id in file_ids]
    return SourceError(
        f"files changed while they were read: {', '.join(paths) or 'of ' + batch.dataset}",
        where=str(batch.landing),
        unchanged="no row of these files was written; what was served stays served",
        fix="deliver files under a hidden name (.name) and rename them; then run the command again",
    )

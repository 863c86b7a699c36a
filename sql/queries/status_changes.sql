-- grain: one change of what is known of past days: a file that was read, or records that moved
-- reads: ops.files, ops.row_moves, ops.nights
-- note: a file is late if a night of its date, or of a later one, had ended before it was read;
--       one that was not late may still bring late rows: records of days before its own
WITH ended AS (
    SELECT
        ds,
        min(ended_at) AS ended_at
    FROM ops.nights
    WHERE outcome IN ('published', 'kept', 'held')
    GROUP BY ds
),

read_files AS (
    SELECT
        f.path,
        CASE WHEN bool_or(ended.ds IS NOT NULL) THEN 'late file' ELSE 'late rows' END AS kind,
        f.arrived_at,
        f.ingested_at AS changed_at,
        f.first_ds,
        f.last_ds,
        f.n_clean AS n_rows
    FROM ops.files AS f
    LEFT JOIN ended ON f.ds <= ended.ds AND f.ingested_at > ended.ended_at
    WHERE f.state = 'ingested' AND f.first_ds IS NOT NULL AND f.ingested_at > $since
    GROUP BY f.file_id, f.path, f.arrived_at, f.ingested_at, f.first_ds, f.last_ds, f.n_clean
),

moves AS (
    SELECT
        f.path,
        CASE
            WHEN m.to_place = 'withdrawn' THEN 'withdrawn file'
            WHEN contains(m.reason, 'mapping') THEN 'mended mapping'
            ELSE 'superseded'
        END AS kind,
        f.arrived_at,
        max(m.moved_at) AS changed_at,
        f.first_ds,
        f.last_ds,
        sum(m.n_rows)::BIGINT AS n_rows
    FROM ops.row_moves AS m
    INNER JOIN ops.files AS f USING (file_id)
    WHERE f.first_ds IS NOT NULL AND m.moved_at > $since
    GROUP BY f.file_id, f.path, kind, f.arrived_at, f.first_ds, f.last_ds
)

SELECT
    path,
    kind,
    arrived_at,
    changed_at,
    first_ds,
    last_ds,
    n_rows
FROM read_files
UNION ALL
SELECT
    path,
    kind,
    arrived_at,
    changed_at,
    first_ds,
    last_ds,
    n_rows
FROM moves
ORDER BY changed_at, path, kind

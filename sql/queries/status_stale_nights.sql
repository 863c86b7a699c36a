-- grain: one night whose window got rows, or lost some, after it had ended
-- reads: ops.nights, ops.files, ops.row_moves
-- note: a file counts for a night if any of its dates lies in the night's window of history
WITH nights AS (
    SELECT
        ds,
        max(ended_at) AS ended_at
    FROM ops.nights
    WHERE outcome IN ('published', 'kept', 'held')
    GROUP BY ds
),

changes AS (
    SELECT
        file_id,
        path,
        first_ds,
        last_ds,
        ingested_at AS changed_at
    FROM ops.files
    WHERE state = 'ingested' AND first_ds IS NOT NULL
    UNION ALL
    SELECT
        f.file_id,
        f.path,
        f.first_ds,
        f.last_ds,
        m.moved_at AS changed_at
    FROM ops.row_moves AS m
    INNER JOIN ops.files AS f USING (file_id)
    WHERE f.first_ds IS NOT NULL
)

SELECT
    nights.ds,
    count(DISTINCT changes.file_id) AS n_files,
    nights.ended_at
FROM nights
INNER JOIN changes
    ON
        nights.ended_at < changes.changed_at
        AND nights.ds >= changes.first_ds
        AND nights.ds - $window <= changes.last_ds
GROUP BY nights.ds, nights.ended_at
ORDER BY nights.ds DESC
LIMIT 30

-- grain: one delivery of one file: where its records are now
-- reads: ops.files, ops.row_moves
WITH moved AS (
    SELECT
        file_id,
        to_place AS place,
        n_rows
    FROM ops.row_moves
    UNION ALL
    SELECT
        file_id,
        from_place AS place,
        -n_rows AS n_rows
    FROM ops.row_moves
),

by_file AS (
    SELECT
        file_id,
        sum(n_rows) FILTER (place = 'clean') AS to_clean,
        sum(n_rows) FILTER (place = 'duplicate') AS to_duplicate,
        sum(n_rows) FILTER (place = 'quarantined') AS to_quarantined,
        sum(n_rows) FILTER (place = 'withdrawn') AS to_withdrawn
    FROM moved
    GROUP BY file_id
)

SELECT
    f.file_id,
    f.dataset,
    f.path,
    f.state,
    f.n_read,
    (f.n_clean + coalesce(m.to_clean, 0))::BIGINT AS n_clean,
    (f.n_duplicate + coalesce(m.to_duplicate, 0))::BIGINT AS n_duplicate,
    (f.n_quarantined + coalesce(m.to_quarantined, 0))::BIGINT AS n_quarantined,
    coalesce(m.to_withdrawn, 0)::BIGINT AS n_withdrawn,
    f.ds
FROM ops.files AS f
LEFT JOIN by_file AS m USING (file_id)
ORDER BY f.ds, f.path, f.file_id

-- grain: one dataset, over the files that were delivered on the date
-- reads: ops.files
SELECT
    dataset,
    count(*) AS n_files,
    count(*) FILTER (WHERE state = 'refused') AS n_refused,
    count(*) FILTER (WHERE state = 'repeated') AS n_repeated,
    sum(n_read)::BIGINT AS n_read,
    sum(n_clean)::BIGINT AS n_clean,
    sum(n_duplicate)::BIGINT AS n_duplicate,
    sum(n_quarantined)::BIGINT AS n_quarantined,
    sum(n_bytes)::BIGINT AS n_bytes
FROM ops.files
WHERE ds = $ds
GROUP BY dataset
ORDER BY dataset

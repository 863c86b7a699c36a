-- grain: one dataset and reason, over all that is in quarantine
-- reads: ops.quarantine
-- note: counts and one place to look at; the records' own text stays in the table
SELECT
    dataset,
    reason,
    count(*) AS n_records,
    count(DISTINCT file_id) AS n_files,
    min(first_seen_at) AS first_seen_at,
    arg_min(path || ':' || line, (ds, path, line)) AS example
FROM ops.quarantine
GROUP BY dataset, reason
ORDER BY n_records DESC, dataset ASC, reason ASC

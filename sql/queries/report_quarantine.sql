-- grain: one dataset and reason, over the records that were delivered on the date
-- reads: ops.quarantine
-- note: counts only; the records' own text stays in the table
SELECT
    dataset,
    reason,
    count(*) AS n_records,
    count(DISTINCT file_id) AS n_files
FROM ops.quarantine
WHERE ds = $ds
GROUP BY dataset, reason
ORDER BY n_records DESC, dataset ASC, reason ASC
LIMIT 50

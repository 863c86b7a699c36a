-- grain: one table that the last run checked, with the number of checks by outcome
-- reads: ops.checks
WITH last_run AS (
    SELECT run_id
    FROM ops.checks
    GROUP BY run_id
    ORDER BY max(checked_at) DESC, run_id ASC
    LIMIT 1
)

SELECT
    c.table_name,
    count(*) FILTER (WHERE c.is_passed) AS n_passed,
    count(*) FILTER (WHERE NOT c.is_passed AND c.severity = 'critical') AS n_critical,
    count(*) FILTER (WHERE NOT c.is_passed AND c.severity = 'warning') AS n_warning,
    count(*) FILTER (WHERE NOT c.is_passed AND c.severity = 'info') AS n_info
FROM ops.checks AS c
INNER JOIN last_run USING (run_id)
GROUP BY c.table_name
ORDER BY c.table_name

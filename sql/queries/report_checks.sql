-- grain: one check of the newest run that made any; failed ones first, the gravest first
-- reads: ops.checks
WITH night AS (
    SELECT *
    FROM ops.checks
    WHERE ds = $ds
),

newest AS (
    SELECT run_id
    FROM night
    ORDER BY checked_at DESC, run_id DESC
    LIMIT 1
)

SELECT
    checks.run_id,
    checks.table_name,
    checks.check_id,
    checks.what,
    checks.severity,
    checks.is_passed,
    checks.observed,
    checks.n_rows,
    checks.n_unexpected
FROM night AS checks
INNER JOIN newest USING (run_id)
ORDER BY
    checks.is_passed,
    list_position(['critical', 'warning', 'info'], checks.severity),
    checks.table_name,
    checks.check_id

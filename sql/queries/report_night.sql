-- grain: one row, how the last run of the night ended
-- reads: ops.nights
SELECT
    run_id,
    outcome,
    reason,
    release_id,
    started_at,
    ended_at
FROM ops.nights
WHERE ds = $ds
ORDER BY ended_at DESC, run_id DESC
LIMIT 1

-- grain: one row, the last attempt of a backfill at the night that has ended
-- reads: ops.backfills
SELECT
    plan_id,
    state,
    outcome,
    as_of,
    planned_at,
    ended_at,
    release_id,
    coalesce(verdict, reason) AS why
FROM ops.backfills
WHERE ds = $ds AND state IN ('done', 'failed')
ORDER BY ended_at DESC, plan_id DESC
LIMIT 1

-- grain: one user with an event in the last active_days
-- reads: features.behaviours_daily
SELECT
    user_id,
    sum(n_events)::BIGINT AS n_events,
    max(last_at) AS last_at,
    $ds AS ds
FROM features.behaviours_daily
WHERE ds BETWEEN $active_since AND $ds
GROUP BY user_id
ORDER BY user_id

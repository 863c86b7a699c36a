-- grain: one user over the window
-- reads: features.user_history_daily
SELECT
    user_id,
    sum(n_events)::BIGINT AS n_events,
    flatten(list(steps ORDER BY ds)) AS steps
FROM features.user_history_daily
WHERE ds BETWEEN $since AND $ds
GROUP BY user_id

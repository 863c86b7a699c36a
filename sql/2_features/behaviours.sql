-- grain: one user, item and behaviour over the window: the multi-behaviour table
-- reads: features.behaviours_daily
SELECT
    user_id,
    item_id,
    behaviour,
    sum(n_events)::BIGINT AS n_events,
    min(first_at) AS first_at,
    max(last_at) AS last_at
FROM features.behaviours_daily
WHERE ds BETWEEN $since AND $ds
GROUP BY user_id, item_id, behaviour

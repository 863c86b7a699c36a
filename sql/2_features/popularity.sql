-- grain: one item and behaviour over the window
-- reads: features.popularity_daily
SELECT
    item_id,
    behaviour,
    sum(n_events)::BIGINT AS n_events,
    sum(n_users)::BIGINT AS n_user_days,
    sum(n_requests)::BIGINT AS n_requests
FROM features.popularity_daily
WHERE ds BETWEEN $since AND $ds
GROUP BY item_id, behaviour

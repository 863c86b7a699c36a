-- grain: one item and behaviour over the window
-- reads: features.popularity_daily
SELECT
    item_id,
    behaviour,
    CAST(sum(n_events) AS BIGINT) AS n_events,
    CAST(sum(n_users) AS BIGINT) AS n_user_days,
    CAST(sum(n_requests) AS BIGINT) AS n_requests
FROM features.popularity_daily
WHERE ds BETWEEN $since AND $ds
GROUP BY item_id, behaviour

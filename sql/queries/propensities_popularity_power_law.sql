-- grain: one shown impression
-- reads: estimated.shown, features.popularity_daily
-- note: (n / max n) ^ eta, n the events of the item over the window: right only up to a factor
WITH items AS (
    SELECT
        item_id,
        sum(n_events) FILTER (WHERE behaviour <> 'impression') AS n
    FROM features.popularity_daily
    GROUP BY item_id
),

most AS (
    SELECT greatest(coalesce(max(n), 0), 1) AS n
    FROM items
)

SELECT
    shown.impression_id,
    shown.request_id,
    shown.user_id,
    shown.item_id,
    shown.position,
    shown.policy,
    shown.p_logged,
    (coalesce(items.n, 0) / most.n) ^ $eta AS estimate,
    'popularity_power_law' AS estimator,
    shown.ds
FROM estimated.shown
CROSS JOIN most
LEFT JOIN items ON shown.item_id = items.item_id

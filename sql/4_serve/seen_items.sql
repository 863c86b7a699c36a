-- grain: one active user and item that must not be recommended again
-- reads: features.behaviours_daily, serve.active_users
-- note: over all history; none where the shop sells the same item again (repurchase)
SELECT DISTINCT
    daily.user_id,
    daily.item_id,
    $ds AS ds
FROM features.behaviours_daily AS daily
INNER JOIN serve.active_users AS active
    ON daily.user_id = active.user_id AND active.ds = $ds
WHERE
    NOT $repurchase
    AND list_contains($seen, daily.behaviour)
    AND daily.ds <= $ds
ORDER BY daily.user_id, daily.item_id

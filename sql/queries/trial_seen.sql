-- grain: one user and item that could not have been recommended again at the cut
-- reads: features.behaviours_daily
-- note: the rule of serve.seen_items, as of the cut
SELECT DISTINCT
    user_id,
    item_id
FROM features.behaviours_daily
WHERE
    NOT $repurchase
    AND list_contains($seen, behaviour)
    AND ds <= $cut
ORDER BY user_id, item_id

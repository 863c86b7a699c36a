-- grain: one user and item with a positive behaviour before the cut
-- reads: features.behaviours_daily, settings.positives
SELECT
    daily.user_id,
    daily.item_id,
    max(positives.weight) AS weight,
    sum(daily.n_events)::BIGINT AS n_events,
    max(daily.last_at) AS last_at,
    $ds AS ds
FROM features.behaviours_daily AS daily
INNER JOIN settings.positives USING (behaviour)
WHERE daily.ds BETWEEN $since AND $cut
GROUP BY daily.user_id, daily.item_id
ORDER BY daily.user_id, daily.item_id

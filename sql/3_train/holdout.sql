-- grain: one user and item with a positive behaviour in the holdout: after the cut, up to $ds
-- reads: features.behaviours_daily, settings.positives, train.examples
WITH positives AS (
    SELECT
        daily.user_id,
        daily.item_id,
        max(positives.weight) AS weight,
        sum(daily.n_events)::BIGINT AS n_events,
        max(daily.last_at) AS last_at
    FROM features.behaviours_daily AS daily
    INNER JOIN settings.positives USING (behaviour)
    WHERE daily.ds > $cut AND daily.ds <= $ds
    GROUP BY daily.user_id, daily.item_id
)

SELECT
    positives.*,
    examples.item_id IS NULL AS is_new,
    $ds AS ds
FROM positives
LEFT JOIN train.examples AS examples
    ON
        positives.user_id = examples.user_id
        AND positives.item_id = examples.item_id
        AND examples.ds = $ds
ORDER BY positives.user_id, positives.item_id

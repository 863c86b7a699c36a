-- grain: one positive step of one user, oldest first
-- reads: features.user_history_daily, settings.positives
WITH steps AS (
    SELECT
        user_id,
        unnest(steps) AS step
    FROM features.user_history_daily
    WHERE ds BETWEEN $since AND $upto
)

SELECT
    steps.user_id,
    steps.step.item_id,
    positives.weight
FROM steps
INNER JOIN settings.positives AS positives ON steps.step.behaviour = positives.behaviour
ORDER BY steps.user_id, steps.step.occurred_at, steps.step.behaviour, steps.step.item_id

-- grain: one shown impression, and what its user did with it
-- reads: clean.impressions, clean.events, as known now
-- note: an event belongs to the impression of its request and item, if it is of the same date
WITH outcomes AS (
    SELECT
        ds,
        request_id,
        item_id,
        list(DISTINCT behaviour ORDER BY behaviour) AS behaviours
    FROM clean.events
    WHERE
        superseded_at IS NULL
        AND request_id IS NOT NULL
        AND list_contains($days, ds)
    GROUP BY ds, request_id, item_id
)

SELECT
    impressions.impression_id,
    impressions.request_id,
    impressions.user_id,
    impressions.item_id,
    impressions.position,
    impressions.policy,
    impressions.policy_score,
    impressions.p_logged,
    coalesce(outcomes.behaviours, []::VARCHAR[]) AS behaviours,
    impressions.ds
FROM clean.impressions AS impressions
LEFT JOIN outcomes
    ON
        impressions.ds = outcomes.ds
        AND impressions.request_id = outcomes.request_id
        AND impressions.item_id = outcomes.item_id
WHERE
    impressions.superseded_at IS NULL
    AND impressions.is_shown
    AND list_contains($days, impressions.ds)
ORDER BY impressions.ds, impressions.request_id, impressions.position, impressions.impression_id

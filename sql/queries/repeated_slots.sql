-- grain: one slot that holds what stands above it already
-- reads: features.feedback_daily
-- note: such as of a request that was logged twice; most logs have none, so keys are counted by
--       their hash first
WITH slots AS (
    SELECT
        ds,
        request_id,
        item_id,
        position,
        impression_id,
        hash(request_id, item_id) AS pair
    FROM features.feedback_daily
    WHERE ds BETWEEN $since AND $ds AND position IS NOT NULL
),

several AS (
    SELECT
        ds,
        pair
    FROM slots
    GROUP BY ds, pair
    HAVING count(*) > 1
)

SELECT
    slots.ds,
    slots.impression_id
FROM slots
SEMI JOIN several ON slots.ds = several.ds AND slots.pair = several.pair
QUALIFY
    row_number() OVER (
        PARTITION BY slots.ds, slots.request_id, slots.item_id
        ORDER BY slots.position, slots.impression_id
    ) > 1
ORDER BY slots.ds, slots.impression_id

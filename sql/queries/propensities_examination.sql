-- grain: one shown impression
-- reads: estimated.shown, estimated.examination
-- note: how often the position is examined, relative to the most examined one: self-normalise
WITH examined AS (
    SELECT
        position,
        theta / max(theta) OVER () AS estimate
    FROM estimated.examination
)

SELECT
    shown.impression_id,
    shown.request_id,
    shown.user_id,
    shown.item_id,
    shown.position,
    shown.policy,
    shown.p_logged,
    examined.estimate,
    'examination' AS estimator,
    shown.ds
FROM estimated.shown
INNER JOIN examined ON shown.position = examined.position

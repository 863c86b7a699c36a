-- grain: one fold of users, item and position
-- reads: features.feedback_daily
-- note: rewards of the slots with a logged probability, weighted by 1 / p_logged, but
--       not above 1e9
WITH slots AS (
    SELECT
        item_id,
        position,
        hash(user_id) % $n_folds AS fold,
        least(1 / p_logged, 1e9) AS w,
        list_contains(behaviours, $behaviour)::INTEGER AS y
    FROM features.feedback_daily
    WHERE
        ds BETWEEN $since AND $ds
        AND p_logged IS NOT NULL
        AND position IS NOT NULL
)

SELECT
    fold,
    item_id,
    position,
    count(*) AS n,
    sum(w::DECIMAL(38, 12))::DOUBLE AS w,
    sum((w * y)::DECIMAL(38, 12))::DOUBLE AS wy
FROM slots
GROUP BY fold, item_id, position
ORDER BY fold, item_id, position

-- grain: one fold of users and position at which anything was shown
-- reads: features.feedback_daily
-- note: the mean reward at the position, of all other users, weighted by 1 / p_logged
WITH slots AS (
    SELECT
        position,
        hash(user_id) % $n_folds AS fold,
        1 / p_logged AS w,
        list_contains(behaviours, $behaviour)::INTEGER AS y
    FROM features.feedback_daily
    WHERE
        ds BETWEEN $since AND $ds
        AND p_logged IS NOT NULL
        AND position IS NOT NULL
),

sums AS (
    SELECT
        fold,
        position,
        sum(w::DECIMAL(38, 12))::DOUBLE AS w,
        sum((w * y)::DECIMAL(38, 12))::DOUBLE AS wy
    FROM slots
    GROUP BY fold, position
),

folds AS (
    SELECT range::UBIGINT AS fold
    FROM range($n_folds)
)

SELECT
    folds.fold,
    sums.position,
    sum(sums.wy::DECIMAL(38, 12))::DOUBLE / sum(sums.w::DECIMAL(38, 12))::DOUBLE AS rate
FROM folds
INNER JOIN sums ON folds.fold <> sums.fold
GROUP BY folds.fold, sums.position
ORDER BY folds.fold, sums.position

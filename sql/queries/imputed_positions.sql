-- grain: one fold of users and position at which anything was shown
-- reads: imputed.sums
-- note: the mean reward at the position, of all other users, weighted by 1 / p_logged
WITH folds AS (
    SELECT range::UBIGINT AS fold
    FROM range($n_folds)
)

SELECT
    folds.fold,
    sums.position,
    sum(sums.wy::DECIMAL(38, 12))::DOUBLE / sum(sums.w::DECIMAL(38, 12))::DOUBLE AS rate
FROM folds
INNER JOIN imputed.sums AS sums ON folds.fold <> sums.fold
GROUP BY folds.fold, sums.position
ORDER BY folds.fold, sums.position

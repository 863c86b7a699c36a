-- grain: one fold of users and item
-- reads: features.feedback_daily, clean.items, imputed.positions
-- note: what the item earned of all other users against the mean of its positions, weighted by
--       1 / p_logged and shrunk towards 1 by $shrinkage mean slots; 1 for an item never shown
WITH slots AS (
    SELECT
        item_id,
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
        item_id,
        position,
        count(*) AS n,
        sum(w::DECIMAL(38, 12))::DOUBLE AS w,
        sum((w * y)::DECIMAL(38, 12))::DOUBLE AS wy
    FROM slots
    GROUP BY fold, item_id, position
),

others AS (
    SELECT
        positions.fold,
        sums.item_id,
        sum(sums.n) AS n,
        sum(sums.wy::DECIMAL(38, 12))::DOUBLE AS earned,
        sum((sums.w * positions.rate)::DECIMAL(38, 12))::DOUBLE AS expected
    FROM imputed.positions AS positions
    INNER JOIN sums
        ON positions.fold <> sums.fold AND positions.position = sums.position
    GROUP BY positions.fold, sums.item_id
),

start AS (
    SELECT
        fold,
        $shrinkage * sum(expected::DECIMAL(38, 12))::DOUBLE / sum(n) AS expected
    FROM others
    GROUP BY fold
),

catalogue AS (
    SELECT DISTINCT item_id
    FROM clean.items
)

SELECT
    start.fold,
    catalogue.item_id,
    coalesce(
        (others.earned + start.expected) / nullif(others.expected + start.expected, 0), 1
    ) AS rate
FROM start
CROSS JOIN catalogue
LEFT JOIN others ON start.fold = others.fold AND catalogue.item_id = others.item_id
ORDER BY start.fold, catalogue.item_id

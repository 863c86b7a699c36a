-- grain: one fold of users and item
-- reads: imputed.sums, imputed.positions, clean.items
-- note: what the item earned of all other users against the mean of its positions, weighted by
--       1 / p_logged and shrunk towards 1 by $shrinkage mean slots; 1 for an item never shown
WITH others AS (
    SELECT
        positions.fold,
        sums.item_id,
        sum(sums.n) AS n,
        sum(sums.wy::DECIMAL(38, 12))::DOUBLE AS earned,
        sum((sums.w * positions.rate)::DECIMAL(38, 12))::DOUBLE AS expected
    FROM imputed.positions AS positions
    INNER JOIN imputed.sums AS sums
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

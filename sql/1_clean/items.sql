-- grain: one item in the catalogue of one date
-- reads: landed and delivery (the files being ingested), clean.items (the dates they touch)
-- note: a snapshot without a date in its path counts for the day it arrived, at the latest for
--       the night that reads it; an item given twice for a date counts as its last delivery
--       (of two that arrived at once, the one ingested last); rows derived from events give way
WITH deliveries AS (
    SELECT
        item_id,
        category,
        product_type,
        brand,
        title,
        price,
        coalesce(is_in_stock, true) AS is_in_stock,
        available_from,
        arrived_at,
        extra,
        file_id,
        ds,
        false AS is_known
    FROM landed
    WHERE misfit IS NULL
    UNION ALL
    SELECT
        item_id,
        category,
        product_type,
        brand,
        title,
        price,
        is_in_stock,
        available_from,
        arrived_at,
        extra,
        file_id,
        ds,
        true AS is_known
    FROM clean.items
    WHERE file_id NOT IN (SELECT d.file_id FROM delivery AS d) AND file_id <> 'derived'
)

SELECT * EXCLUDE (is_known)
FROM deliveries
QUALIFY
    row_number() OVER (
        PARTITION BY item_id, ds
        ORDER BY
            arrived_at DESC,
            is_known ASC,
            file_id ASC,
            row(category, product_type, brand, title, price, is_in_stock, available_from, extra) ASC
    ) = 1
ORDER BY ds, item_id

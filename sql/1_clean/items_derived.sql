-- grain: one item that occurs in an event up to $ds
-- reads: clean.events, as known now
-- note: makes clean.items of the night where the shop delivers no item file
SELECT
    item_id,
    NULL::VARCHAR AS category,
    NULL::VARCHAR AS product_type,
    NULL::VARCHAR AS brand,
    NULL::VARCHAR AS title,
    NULL::DOUBLE AS price,
    true AS is_in_stock,
    min(ds) AS available_from,
    min(arrived_at) AS arrived_at,
    NULL::VARCHAR AS extra,
    'derived' AS file_id,
    $ds AS ds
FROM clean.events
WHERE superseded_at IS NULL AND ds <= $ds
GROUP BY item_id
ORDER BY item_id

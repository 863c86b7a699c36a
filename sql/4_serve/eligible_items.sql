-- grain: one item that may be recommended: in the catalogue, on sale, in stock
-- reads: clean.items
-- note: the catalogue of the night is the newest snapshot up to $ds, else the first there is
SELECT
    item_id,
    ds AS catalogue_ds,
    $ds AS ds
FROM clean.items
WHERE
    ds = $catalogue_ds
    AND is_in_stock
    AND coalesce(available_from <= $ds, true)
ORDER BY item_id

-- grain: one item that could be shown on a date with feedback
-- reads: features.feedback_daily, clean.items
-- note: in stock and on sale by the newest catalogue up to the date, else the first there is
WITH days AS (
    SELECT DISTINCT ds
    FROM features.feedback_daily
    WHERE ds BETWEEN $since AND $ds
),

snapshots AS (
    SELECT DISTINCT ds
    FROM clean.items
),

catalogues AS (
    SELECT
        days.ds,
        coalesce(
            max(snapshots.ds) FILTER (WHERE snapshots.ds <= days.ds), min(snapshots.ds)
        ) AS catalogue_ds
    FROM days
    CROSS JOIN snapshots
    GROUP BY days.ds
)

SELECT
    catalogues.ds,
    items.item_id
FROM catalogues
INNER JOIN clean.items AS items ON catalogues.catalogue_ds = items.ds
WHERE items.is_in_stock AND coalesce(items.available_from <= catalogues.ds, true)
ORDER BY catalogues.ds, items.item_id

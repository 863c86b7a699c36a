-- grain: one date of the window
-- reads: clean.impressions, clean.items
-- note: how many items could be shown: in stock and on sale by the newest catalogue of the window
--       up to the date; without one, every item that the window logged
WITH days AS (
    SELECT DISTINCT ds
    FROM clean.impressions
),

snapshots AS (
    SELECT DISTINCT ds
    FROM clean.items
),

catalogues AS (
    SELECT
        days.ds,
        max(snapshots.ds) AS catalogue_ds
    FROM days
    LEFT JOIN snapshots ON days.ds >= snapshots.ds
    GROUP BY days.ds
),

logged AS (
    SELECT count(DISTINCT item_id) AS n
    FROM clean.impressions
    WHERE superseded_at IS NULL
),

counted AS (
    SELECT
        catalogues.ds,
        count(*) AS n
    FROM catalogues
    INNER JOIN clean.items AS items ON catalogues.catalogue_ds = items.ds
    WHERE items.is_in_stock AND coalesce(items.available_from <= catalogues.ds, true)
    GROUP BY catalogues.ds
)

SELECT
    days.ds,
    coalesce(counted.n, logged.n) AS n_eligible
FROM days
CROSS JOIN logged
LEFT JOIN counted ON days.ds = counted.ds

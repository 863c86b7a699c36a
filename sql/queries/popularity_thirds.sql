-- grain: one item of any catalogue
-- reads: clean.items, features.popularity_daily
-- note: head: the most popular items, which have the first third of all events in the window;
--       middle; tail: the many others. An item belongs to the third in which its events begin.
WITH catalogue AS (
    SELECT DISTINCT item_id
    FROM clean.items
),

counts AS (
    SELECT
        catalogue.item_id,
        coalesce(sum(daily.n_events) FILTER (WHERE daily.behaviour <> 'impression'), 0) AS n_events
    FROM catalogue
    LEFT JOIN features.popularity_daily AS daily ON catalogue.item_id = daily.item_id
    GROUP BY catalogue.item_id
),

placed AS (
    SELECT
        item_id,
        sum(n_events) OVER (ORDER BY n_events DESC, item_id ASC) - n_events AS n_before
    FROM counts
),

total AS (
    SELECT greatest(sum(n_events), 1) AS n_events
    FROM counts
)

SELECT
    placed.item_id,
    CASE
        WHEN 3 * placed.n_before < total.n_events THEN 'head'
        WHEN 3 * placed.n_before < 2 * total.n_events THEN 'middle'
        ELSE 'tail'
    END AS third
FROM placed
CROSS JOIN total
ORDER BY placed.item_id

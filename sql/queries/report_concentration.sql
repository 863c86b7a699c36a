-- grain: one kind of count (impressions, events, recommendations) and hundredth of the items
-- reads: features.popularity_daily, clean.items, serve.publications, serve.recommendations
-- note: a Lorenz curve per kind over 30 days up to the night, items from the rarest to the most
--       frequent, items of the catalogue without any included; `gini` is 0 where all are equal
WITH release AS (
    SELECT release_id
    FROM serve.publications
    WHERE ds = $ds
    ORDER BY decided_at DESC, release_id DESC
    LIMIT 1
),

nights_rows AS (
    SELECT
        release_id,
        item_id
    FROM serve.recommendations
    WHERE ds = $ds
),

counted AS (
    SELECT
        item_id,
        CASE WHEN behaviour = 'impression' THEN 'impressions' ELSE 'events' END AS kind,
        sum(n_events)::BIGINT AS n
    FROM features.popularity_daily
    WHERE ds BETWEEN $ds - 29 AND $ds
    GROUP BY item_id, kind
    UNION ALL
    SELECT
        nights_rows.item_id,
        'recommendations' AS kind,
        count(*) AS n
    FROM nights_rows
    INNER JOIN release USING (release_id)
    GROUP BY nights_rows.item_id
),

items AS (
    SELECT item_id FROM clean.items
    WHERE ds = $ds
    UNION
    SELECT item_id FROM counted
),

kinds AS (
    SELECT DISTINCT kind FROM counted
),

ranked AS (
    SELECT
        kinds.kind,
        coalesce(counted.n, 0) AS n,
        row_number() OVER (PARTITION BY kinds.kind ORDER BY counted.n NULLS FIRST) AS place,
        count(*) OVER (PARTITION BY kinds.kind) AS n_items
    FROM kinds
    CROSS JOIN items
    LEFT JOIN counted ON kinds.kind = counted.kind AND items.item_id = counted.item_id
),

summed AS (
    SELECT
        kind,
        n,
        place,
        n_items,
        sum(n) OVER (PARTITION BY kind ORDER BY place) AS n_upto,
        sum(n) OVER (PARTITION BY kind) AS n_all,
        sum(n * place) OVER (PARTITION BY kind) AS n_weighted
    FROM ranked
)

SELECT
    kind,
    round(max(place) / max(n_items), 4) AS share_items,
    round(max(n_upto) / max(n_all), 4) AS share_counts,
    round(2 * max(n_weighted) / (max(n_items) * max(n_all)) - 1 - 1 / max(n_items), 4) AS gini,
    max(n_items) AS n_items
FROM summed
GROUP BY kind, place * 100 // n_items
ORDER BY kind, share_items

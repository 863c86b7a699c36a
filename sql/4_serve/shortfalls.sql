-- grain: one active user with fewer than $k rows in release $release_id
-- reads: serve.active_users, serve.recommendations, serve.eligible_items, serve.seen_items
WITH listed AS (
    SELECT
        user_id,
        count(*) AS n_rows
    FROM serve.recommendations
    WHERE release_id = $release_id
    GROUP BY user_id
),

catalogue AS (
    SELECT count(*) AS n_eligible
    FROM serve.eligible_items
),

seen AS (
    SELECT
        seen_items.user_id,
        count(*) AS n_seen
    FROM serve.seen_items
    INNER JOIN serve.eligible_items USING (item_id)
    GROUP BY seen_items.user_id
)

SELECT
    $release_id AS release_id,
    $ds AS ds,
    active.user_id,
    coalesce(listed.n_rows, 0) AS n_rows,
    catalogue.n_eligible,
    coalesce(seen.n_seen, 0) AS n_seen,
    CASE
        WHEN catalogue.n_eligible < $k
            THEN 'the catalogue has only ' || catalogue.n_eligible || ' items to recommend'
        WHEN catalogue.n_eligible - coalesce(seen.n_seen, 0) < $k
            THEN format(
                'only {} of {} items are not seen yet',
                catalogue.n_eligible - coalesce(seen.n_seen, 0),
                catalogue.n_eligible
            )
        ELSE 'no model gave enough rows'
    END AS reason
FROM serve.active_users AS active
CROSS JOIN catalogue
LEFT JOIN listed USING (user_id)
LEFT JOIN seen USING (user_id)
WHERE coalesce(listed.n_rows, 0) < $k
ORDER BY active.user_id

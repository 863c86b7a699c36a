-- grain: one release that is read: how long, how wide and how concentrated its lists are
-- reads: serve.recommendations
WITH items AS (
    SELECT
        release_id,
        item_id,
        count(*) AS n_rows
    FROM serve.recommendations
    GROUP BY release_id, item_id
),

users AS (
    SELECT
        release_id,
        count(DISTINCT user_id) AS n_users
    FROM serve.recommendations
    GROUP BY release_id
)

SELECT
    items.release_id,
    users.n_users,
    sum(items.n_rows)::BIGINT AS n_rows,
    count(*) AS n_items,
    max(items.n_rows) / users.n_users AS top_item_share
FROM items
INNER JOIN users ON items.release_id = users.release_id
GROUP BY items.release_id, users.n_users
ORDER BY items.release_id

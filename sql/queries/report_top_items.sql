-- grain: one of the 15 items that most users of the night's release are recommended
-- reads: serve.publications, serve.recommendations, features.popularity_daily, clean.items
-- note: the popularity rank is by events of 30 days up to the night, 1 is the most popular
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
        user_id,
        item_id,
        rank
    FROM serve.recommendations
    WHERE ds = $ds
),

listed AS (
    SELECT
        nights_rows.user_id,
        nights_rows.item_id,
        nights_rows.rank
    FROM nights_rows
    INNER JOIN release USING (release_id)
),

everyone AS (
    SELECT count(DISTINCT user_id) AS n_users
    FROM listed
),

popular AS (
    SELECT
        item_id,
        rank() OVER (ORDER BY sum(n_events) DESC) AS popularity_rank
    FROM features.popularity_daily
    WHERE ds BETWEEN $ds - 29 AND $ds AND behaviour <> 'impression'
    GROUP BY item_id
),

titles AS (
    SELECT
        item_id,
        min(title) AS title
    FROM clean.items
    WHERE ds = $ds
    GROUP BY item_id
)

SELECT
    listed.item_id,
    min(titles.title) AS title,
    count(DISTINCT listed.user_id) AS n_users,
    round(count(DISTINCT listed.user_id) / max(everyone.n_users), 4) AS share_users,
    round(avg(listed.rank), 1) AS mean_rank,
    min(popular.popularity_rank) AS popularity_rank
FROM listed
CROSS JOIN everyone
LEFT JOIN popular USING (item_id)
LEFT JOIN titles USING (item_id)
GROUP BY listed.item_id
ORDER BY n_users DESC, listed.item_id ASC
LIMIT 15

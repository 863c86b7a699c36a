-- grain: one user of compared.users
-- reads: compared.users, compared.champion, compared.challenger, clean.users,
--        features.behaviours_daily
-- note: whether both lists serve the user, and the segments that the user belongs to; activity is
--       the third of the users by their events up to the cut
WITH served AS (
    SELECT user_id
    FROM compared.champion
    INTERSECT
    SELECT user_id
    FROM compared.challenger
),

events AS (
    SELECT
        user_id,
        sum(n_events) AS n_events
    FROM features.behaviours_daily
    WHERE ds <= $cut
    GROUP BY user_id
),

facts AS (
    SELECT
        users.user_id,
        served.user_id IS NOT NULL AS is_compared,
        coalesce(events.n_events, 0) AS n_events
    FROM compared.users AS users
    LEFT JOIN served ON users.user_id = served.user_id
    LEFT JOIN events ON users.user_id = events.user_id
),

thirds AS (
    SELECT
        *,
        ntile(3) OVER (ORDER BY n_events, user_id) AS third
    FROM facts
)

SELECT
    thirds.user_id,
    thirds.is_compared,
    people.age_band,
    people.country,
    CASE thirds.third WHEN 1 THEN 'least' WHEN 2 THEN 'middle' ELSE 'most' END AS activity
FROM thirds
LEFT JOIN clean.users AS people ON thirds.user_id = people.user_id
ORDER BY thirds.user_id

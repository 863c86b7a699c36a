-- grain: one user of stated.users
-- reads: stated.users, clean.users, features.behaviours_daily
-- note: the segments that the user belongs to; activity is the third of these users by their events
--       in the window up to the cut, equals together
WITH events AS (
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
        coalesce(events.n_events, 0) AS n_events
    FROM stated.users AS users
    LEFT JOIN events ON users.user_id = events.user_id
),

bounds AS (
    SELECT
        quantile_disc(n_events, 1 / 3) AS first_third,
        quantile_disc(n_events, 2 / 3) AS second_third
    FROM facts
)

SELECT
    facts.user_id,
    people.age_band,
    people.country,
    CASE
        WHEN facts.n_events <= bounds.first_third THEN 'least'
        WHEN facts.n_events <= bounds.second_third THEN 'middle'
        ELSE 'most'
    END AS activity
FROM facts
CROSS JOIN bounds
LEFT JOIN clean.users AS people ON facts.user_id = people.user_id
ORDER BY facts.user_id

-- grain: one range of $n_users active users
-- reads: serve.active_users
WITH numbered AS (
    SELECT
        user_id,
        (row_number() OVER (ORDER BY user_id) - 1) // $n_users AS nth
    FROM serve.active_users
)

SELECT
    min(user_id) AS first_user,
    max(user_id) AS last_user
FROM numbered
GROUP BY nth
ORDER BY nth

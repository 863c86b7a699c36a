-- grain: one rank of one user in the trial lists of $model of one release
-- reads: serve.trials
-- note: users whom the model does not know have the cold model's list, as the rules have it
WITH trials AS (
    SELECT
        user_id,
        item_id,
        rank,
        model = $model AS is_own,
        max(model = $model) OVER (PARTITION BY user_id) AS is_known
    FROM serve.trials
    WHERE release_id = $release_id AND model IN ($model, $cold_model) AND rank <= $k
)

SELECT
    user_id,
    item_id,
    rank
FROM trials
WHERE is_own = is_known
ORDER BY user_id, rank

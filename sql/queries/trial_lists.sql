-- grain: one rank of one user in the trial lists of $model of one release
-- reads: serve.trials
-- note: users whom the model does not know have the cold model's list, as the rules have it
WITH trials AS (
    SELECT
        user_id,
        item_id,
        rank,
        model
    FROM serve.trials
    WHERE release_id = $release_id AND rank <= $k
),

own AS (
    SELECT
        user_id,
        item_id,
        rank
    FROM trials
    WHERE model = $model
),

cold AS (
    SELECT
        trials.user_id,
        trials.item_id,
        trials.rank
    FROM trials
    ANTI JOIN own ON trials.user_id = own.user_id
    WHERE trials.model = $cold_model
)

SELECT *
FROM own
UNION ALL
SELECT *
FROM cold
ORDER BY user_id, rank

-- grain: one user whom both lists serve, with a positive after the cut
-- reads: compared.champion, compared.challenger, train.holdout
-- note: NDCG@K of both lists, as in tasks/estimate/ranking.py, against all of the holdout that is
--       after the cut of both
WITH holdout AS (
    SELECT
        user_id,
        item_id
    FROM train.holdout
    WHERE (last_at AT TIME ZONE 'UTC')::DATE > $cut
),

listed AS (
    SELECT
        user_id,
        item_id,
        1 / log2(rank + 1) AS gain,
        0 AS other_gain
    FROM compared.challenger
    UNION ALL
    SELECT
        user_id,
        item_id,
        0 AS gain,
        1 / log2(rank + 1) AS other_gain
    FROM compared.champion
),

served AS (
    SELECT user_id
    FROM compared.champion
    INTERSECT
    SELECT user_id
    FROM compared.challenger
),

wanted AS (
    SELECT
        holdout.user_id,
        count(*) AS n_wanted
    FROM holdout
    INNER JOIN served ON holdout.user_id = served.user_id
    GROUP BY holdout.user_id
),

ranks AS (
    SELECT
        range + 1 AS rank,
        (1 / log2(range + 2))::DECIMAL(38, 12) AS gain
    FROM range($k)
),

ideals AS (
    SELECT
        most.rank AS n_wanted,
        sum(ranks.gain)::DOUBLE AS ideal
    FROM ranks AS most
    INNER JOIN ranks ON most.rank >= ranks.rank
    GROUP BY most.rank
),

gained AS (
    SELECT
        listed.user_id,
        sum(listed.gain::DECIMAL(38, 12))::DOUBLE AS gain,
        sum(listed.other_gain::DECIMAL(38, 12))::DOUBLE AS other_gain
    FROM listed
    INNER JOIN holdout
        ON listed.user_id = holdout.user_id AND listed.item_id = holdout.item_id
    GROUP BY listed.user_id
)

SELECT
    wanted.user_id,
    coalesce(gained.gain, 0) / ideals.ideal AS challenger,
    coalesce(gained.other_gain, 0) / ideals.ideal AS champion
FROM wanted
INNER JOIN ideals ON least(wanted.n_wanted, $k) = ideals.n_wanted
LEFT JOIN gained ON wanted.user_id = gained.user_id
ORDER BY wanted.user_id

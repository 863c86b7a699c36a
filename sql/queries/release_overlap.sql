-- grain: one row: how much alike two releases are, over the users who have a list in both
-- reads: serve.recommendations
-- note: of each user the share of the longer list that stands in the other too
WITH sizes AS (
    SELECT
        user_id,
        count(*) FILTER (release_id = $release_id) AS n_ours,
        count(*) FILTER (release_id = $other) AS n_theirs
    FROM serve.recommendations
    GROUP BY user_id
),

shared AS (
    SELECT
        ours.user_id,
        count(*) AS n_shared
    FROM serve.recommendations AS ours
    INNER JOIN serve.recommendations AS theirs
        ON
            ours.user_id = theirs.user_id
            AND ours.item_id = theirs.item_id
            AND theirs.release_id = $other
    WHERE ours.release_id = $release_id
    GROUP BY ours.user_id
)

SELECT
    round(
        avg(coalesce(shared.n_shared, 0) / greatest(sizes.n_ours, sizes.n_theirs)), 6
    ) AS overlap
FROM sizes
LEFT JOIN shared ON sizes.user_id = shared.user_id
WHERE sizes.n_ours > 0 AND sizes.n_theirs > 0

-- grain: one row, the release of the night that was decided on last
-- reads: serve.publications, serve.recommendations, serve.eligible_items, serve.active_users,
--        serve.shortfalls
WITH release AS (
    SELECT
        release_id,
        action,
        reason,
        model
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
    SELECT nights_rows.*
    FROM nights_rows
    INNER JOIN release USING (release_id)
),

lists AS (
    SELECT
        count(*) AS n_rows,
        count(DISTINCT user_id) AS n_users,
        count(DISTINCT item_id) AS n_items,
        max(rank) AS k
    FROM listed
),

covered AS (
    SELECT
        count(*) AS n_eligible,
        count(*) FILTER (
            WHERE item_id IN (
                SELECT listed.item_id FROM listed
            )
        ) AS n_covered
    FROM serve.eligible_items
    WHERE ds = $ds
),

active AS (
    SELECT count(*) AS n_active
    FROM serve.active_users
    WHERE ds = $ds
),

shortfalls AS (
    SELECT release_id
    FROM serve.shortfalls
    WHERE ds = $ds
),

short AS (
    SELECT count(*) AS n_short
    FROM shortfalls
    INNER JOIN release USING (release_id)
)

SELECT
    release.release_id,
    release.action,
    release.reason,
    release.model,
    lists.n_rows,
    lists.n_users,
    lists.n_items,
    lists.k,
    covered.n_eligible,
    covered.n_covered,
    active.n_active,
    short.n_short
FROM release
CROSS JOIN lists
CROSS JOIN covered
CROSS JOIN active
CROSS JOIN short

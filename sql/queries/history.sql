-- grain: one decision about what is served, newest first
-- reads: serve.publications, serve.holds
-- note: state names the decision that says what is served, and the hold that stands
WITH publications AS (
    SELECT
        decided_at,
        action,
        ds,
        release_id,
        model,
        n_users,
        n_rows,
        who,
        reason,
        CASE
            WHEN
                action IN ('publish', 'force', 'rollback')
                AND row_number() OVER (
                    PARTITION BY action IN ('publish', 'force', 'rollback')
                    ORDER BY decided_at DESC, release_id DESC
                ) = 1
                THEN 'served'
        END AS state
    FROM serve.publications
),

holds AS (
    SELECT
        decided_at,
        action || ' nights' AS action,
        ds,
        release_id,
        NULL AS model,
        NULL AS n_users,
        NULL AS n_rows,
        who,
        reason,
        CASE
            WHEN action = 'hold' AND row_number() OVER (ORDER BY decided_at DESC) = 1
                THEN 'stands'
        END AS state
    FROM serve.holds
),

decisions AS (
    SELECT * FROM publications
    UNION ALL BY NAME
    SELECT * FROM holds
)

SELECT
    decided_at,
    state,
    action,
    ds,
    release_id,
    model,
    n_users,
    n_rows,
    who,
    reason
FROM decisions
ORDER BY decided_at DESC, release_id DESC, action ASC
LIMIT $last

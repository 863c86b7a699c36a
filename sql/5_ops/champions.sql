-- grain: one time in which the lists of one model version were served
-- reads: serve.publications, ops.models
-- note: the champion is the row whose served_until is null
WITH decisions AS (
    SELECT
        model,
        release_id,
        ds,
        action,
        decided_at AS served_since,
        lead(decided_at) OVER (ORDER BY decided_at, release_id) AS served_until
    FROM serve.publications
    WHERE action IN ('publish', 'force', 'rollback')
)

SELECT
    d.model,
    m.model_version,
    d.release_id,
    d.ds,
    d.action,
    d.served_since,
    d.served_until
FROM decisions AS d
LEFT JOIN ops.models AS m
    ON d.release_id = m.release_id AND d.model = m.model
ORDER BY d.served_since, d.release_id

-- grain: one reason for lists shorter than K in the night's release
-- reads: serve.publications, serve.shortfalls
WITH release AS (
    SELECT release_id
    FROM serve.publications
    WHERE ds = $ds
    ORDER BY decided_at DESC, release_id DESC
    LIMIT 1
),

shortfalls AS (
    SELECT
        release_id,
        n_rows,
        reason
    FROM serve.shortfalls
    WHERE ds = $ds
)

SELECT
    shortfalls.reason,
    count(*) AS n_users,
    min(shortfalls.n_rows) AS fewest_rows,
    sum(shortfalls.n_rows)::BIGINT AS n_rows
FROM shortfalls
INNER JOIN release USING (release_id)
GROUP BY shortfalls.reason
ORDER BY n_users DESC, shortfalls.reason ASC
LIMIT 20

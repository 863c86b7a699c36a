-- grain: one source, model and version of the rows of the night's release
-- reads: serve.publications, serve.recommendations
WITH release AS (
    SELECT release_id
    FROM serve.publications
    WHERE ds = $ds
    ORDER BY decided_at DESC, release_id DESC
    LIMIT 1
),

nights_rows AS (
    SELECT
        release_id,
        user_id,
        source,
        model,
        model_version
    FROM serve.recommendations
    WHERE ds = $ds
)

SELECT
    nights_rows.source,
    nights_rows.model,
    nights_rows.model_version,
    count(*) AS n_rows,
    count(DISTINCT nights_rows.user_id) AS n_users
FROM nights_rows
INNER JOIN release USING (release_id)
GROUP BY nights_rows.source, nights_rows.model, nights_rows.model_version
ORDER BY n_rows DESC, nights_rows.source ASC, nights_rows.model ASC

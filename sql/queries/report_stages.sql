-- grain: one stage of the newest run of the night
-- reads: ops.stages
WITH night AS (
    SELECT *
    FROM ops.stages
    WHERE ds = $ds
),

newest AS (
    SELECT run_id
    FROM night
    ORDER BY started_at DESC, run_id DESC
    LIMIT 1
)

SELECT
    stages.run_id,
    stages.stage,
    stages.state,
    stages.n_rows,
    stages.n_bytes,
    stages.seconds,
    stages.cpu_seconds,
    stages.peak_mb
FROM night AS stages
INNER JOIN newest USING (run_id)
ORDER BY stages.started_at, stages.stage

-- grain: one model of one night and estimate against what was served, over 30 nights
-- reads: serve.comparisons, serve.publications
-- note: of the last release of each night, all users; dr and the time split
WITH releases AS (
    SELECT
        release_id,
        ds
    FROM serve.publications
    WHERE ds BETWEEN $ds - 29 AND $ds
    QUALIFY row_number() OVER (PARTITION BY ds ORDER BY decided_at DESC, release_id DESC) = 1
)

SELECT
    comparisons.ds,
    comparisons.model,
    comparisons.is_candidate,
    comparisons.champion_model,
    comparisons.estimator,
    comparisons.reward,
    comparisons.change,
    comparisons.lower AS low,
    comparisons.upper AS high,
    comparisons.n_users,
    comparisons.ess,
    comparisons.verdict
FROM serve.comparisons AS comparisons
INNER JOIN releases
    ON comparisons.release_id = releases.release_id AND comparisons.ds = releases.ds
WHERE comparisons.segment_kind = 'all' AND comparisons.estimator IN ('dr', 'time_split')
ORDER BY comparisons.ds DESC, comparisons.estimator ASC, comparisons.model ASC

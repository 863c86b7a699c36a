-- grain: one row that a model of exposure is fitted on: shown, or logged as not shown
-- reads: clean.impressions, estimated.shares, estimated.users, estimated.eligible
-- note: whole requests that logged what they did not show, by the hash of their id, at most
--       $fit_rows rows. m is how many eligible items of the request a row stands for: 1 what was
--       shown, and what was not shown for all that were not. The share is that of other folds.
WITH requests AS (
    SELECT
        ds,
        request_id,
        count(*) FILTER (WHERE is_shown) AS n_shown,
        count(*) FILTER (WHERE NOT is_shown) AS n_not_shown
    FROM clean.impressions
    WHERE superseded_at IS NULL
    GROUP BY ds, request_id
    HAVING
        n_not_shown > 0
        AND n_shown > 0
        AND (NOT $policy_score OR bool_and(coalesce(isfinite(policy_score), false)))
),

placed AS (
    SELECT
        *,
        sum(n_shown + n_not_shown) OVER (
            ORDER BY hash(request_id), ds, request_id ROWS UNBOUNDED PRECEDING
        ) AS n_upto
    FROM requests
),

drawn AS (
    SELECT *
    FROM placed
    WHERE n_upto <= $fit_rows
),

candidates AS (
    SELECT
        impressions.*,
        (hash(impressions.user_id) % $n_folds)::INTEGER AS fold,
        CASE
            WHEN impressions.is_shown THEN 1.0
            ELSE greatest(eligible.n_eligible - drawn.n_shown, 0) / drawn.n_not_shown
        END AS m
    FROM clean.impressions AS impressions
    INNER JOIN drawn
        ON impressions.ds = drawn.ds AND impressions.request_id = drawn.request_id
    INNER JOIN estimated.eligible AS eligible ON impressions.ds = eligible.ds
    WHERE impressions.superseded_at IS NULL
)

SELECT
    candidates.fold,
    candidates.is_shown,
    candidates.m,
    coalesce(shares.share, never_shown.share) AS share,
    users.activity,
    hour(candidates.occurred_at) AS hour,
    candidates.policy_score
FROM candidates
INNER JOIN estimated.users AS users ON candidates.user_id = users.user_id
LEFT JOIN estimated.shares AS shares
    ON candidates.fold = shares.fold AND candidates.item_id = shares.item_id
INNER JOIN estimated.shares AS never_shown
    ON candidates.fold = never_shown.fold AND never_shown.item_id IS NULL
ORDER BY
    hash(candidates.request_id), candidates.ds, candidates.request_id, candidates.impression_id

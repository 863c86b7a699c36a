-- grain: one shown impression
-- reads: clean.impressions, features.popularity_daily, features.traffic_daily
-- note: smoothed, clipped exposure share of the item over the window that ends on the
--       impression's own date, (requests that showed it + a) / (requests + b); it knows nothing of
--       the user or the position. The policy's own logged probability stands beside it.
WITH requests AS (
    SELECT
        ds,
        sum(n_requests) OVER (
            ORDER BY ds RANGE BETWEEN $window PRECEDING AND CURRENT ROW
        ) AS n_requests
    FROM features.traffic_daily
),

shown AS (
    SELECT
        ds,
        item_id,
        sum(n_requests) OVER (
            PARTITION BY item_id
            ORDER BY ds RANGE BETWEEN $window PRECEDING AND CURRENT ROW
        ) AS n_shown
    FROM features.popularity_daily
    WHERE behaviour = 'impression'
),

shares AS (
    SELECT
        ds,
        shown.item_id,
        (shown.n_shown + $smoothing_a) / (requests.n_requests + $smoothing_b) AS share
    FROM shown
    INNER JOIN requests USING (ds)
)

SELECT
    impressions.impression_id,
    impressions.request_id,
    impressions.user_id,
    impressions.item_id,
    impressions.position,
    impressions.policy,
    impressions.p_logged,
    greatest(shares.share, $clip) AS p_exposed,
    shares.share < $clip AS is_clipped,
    'exposure_share' AS estimator,
    impressions.ds
FROM clean.impressions AS impressions
INNER JOIN shares
    ON impressions.ds = shares.ds AND impressions.item_id = shares.item_id
WHERE
    impressions.superseded_at IS NULL
    AND impressions.is_shown
    AND list_contains($days, impressions.ds)
ORDER BY impressions.ds, impressions.user_id, impressions.impression_id

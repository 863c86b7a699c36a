-- grain: one item as of $ds: every item of the catalogue, and every other that was shown or used
-- reads: features.popularity_daily, features.traffic_daily, clean.items
-- note: where impressions were logged in the window, the smoothed exposure share,
--       (requests that showed it + a) / (requests + b); else the popularity power law
--       (n / max n) ^ eta, which is right only up to a factor: use it self-normalised.
WITH traffic AS (
    SELECT coalesce(sum(n_requests), 0) AS n_requests
    FROM features.traffic_daily
    WHERE ds BETWEEN $since AND $ds
),

counts AS (
    SELECT
        item_id,
        sum(n_requests) AS n_requests,
        sum(n_events) FILTER (WHERE behaviour = 'impression') AS n_impressions,
        sum(n_events) FILTER (WHERE behaviour <> 'impression') AS n_events
    FROM features.popularity_daily
    WHERE ds BETWEEN $since AND $ds
    GROUP BY item_id
),

catalogue AS (
    SELECT DISTINCT item_id
    FROM clean.items
    WHERE ds = $catalogue_ds
),

items AS (
    SELECT
        item_id,
        coalesce(counts.n_requests, 0) AS n_requests,
        coalesce(counts.n_impressions, 0) AS n_impressions,
        coalesce(counts.n_events, 0) AS n_events
    FROM catalogue
    FULL OUTER JOIN counts USING (item_id)
),

estimates AS (
    SELECT
        items.item_id,
        items.n_impressions,
        items.n_events,
        CASE
            WHEN traffic.n_requests > 0
                THEN (items.n_requests + $smoothing_a) / (traffic.n_requests + $smoothing_b)
            ELSE (items.n_events / greatest(max(items.n_events) OVER (), 1)) ^ $eta
        END AS estimate,
        CASE
            WHEN traffic.n_requests > 0 THEN 'exposure_share'
            ELSE 'popularity_power_law'
        END AS estimator
    FROM items
    CROSS JOIN traffic
)

SELECT
    item_id,
    n_impressions::BIGINT AS n_impressions,
    n_events::BIGINT AS n_events,
    greatest(estimate, $clip) AS p_exposed,
    estimate < $clip AS is_clipped,
    estimator,
    $ds AS ds
FROM estimates
ORDER BY item_id

-- grain: one item as of $ds: every item of the catalogue, and every other that was shown or used
-- reads: features.popularity_daily, features.traffic_daily, features.feedback_daily,
--        features.examination, clean.items
-- note: of an item, whoever asks: the smoothed exposure share where impressions were logged in the
--       window, (requests that showed it + a) / (requests + b), which is what estimators that know
--       the user give on average; with $estimator = 'examination' each request counts by how much
--       the item's position is examined. Without impressions, or where it is set, the popularity
--       power law (n / max n) ^ eta, which is right only up to a factor: use it self-normalised.
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

examination AS (
    SELECT
        position,
        theta / max(theta) OVER () AS theta
    FROM features.examination
    WHERE ds = $ds AND is_used
),

examined AS (
    SELECT
        feedback.item_id,
        sum(examination.theta::DECIMAL(38, 12))::DOUBLE AS n_requests
    FROM features.feedback_daily AS feedback
    INNER JOIN examination ON feedback.position = examination.position
    WHERE feedback.ds BETWEEN $since AND $ds AND $estimator = 'examination'
    GROUP BY feedback.item_id
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

named AS (
    SELECT
        items.*,
        coalesce(examined.n_requests, 0) AS n_examined,
        traffic.n_requests + $smoothing_b AS n_all,
        CASE
            WHEN traffic.n_requests = 0 OR $estimator = 'popularity_power_law'
                THEN 'popularity_power_law'
            WHEN $estimator = 'examination' THEN 'examination'
            ELSE 'exposure_share'
        END AS estimator
    FROM items
    CROSS JOIN traffic
    LEFT JOIN examined ON items.item_id = examined.item_id
),

estimates AS (
    SELECT
        *,
        CASE estimator
            WHEN 'exposure_share' THEN (n_requests + $smoothing_a) / n_all
            WHEN 'examination' THEN (n_examined + $smoothing_a) / n_all
            ELSE (n_events / greatest(max(n_events) OVER (), 1)) ^ $eta
        END AS estimate
    FROM named
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

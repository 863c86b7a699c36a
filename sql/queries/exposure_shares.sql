-- grain: one item and fold of users; one row of each fold without an item: any item never shown
-- reads: features.exposure_daily
-- note: the share of the requests of all other folds that showed it,
--       (requests that showed it + a) / (requests + b)
WITH folds AS (
    SELECT range::INTEGER AS fold
    FROM range($n_folds)
),

fold_days AS (
    SELECT DISTINCT
        ds,
        fold,
        n_fold_requests
    FROM features.exposure_daily
),

own_requests AS (
    SELECT
        fold,
        sum(n_fold_requests) AS n
    FROM fold_days
    GROUP BY fold
),

requests AS (
    SELECT
        folds.fold,
        coalesce(sum(own_requests.n) OVER (), 0) - coalesce(own_requests.n, 0) AS n
    FROM folds
    LEFT JOIN own_requests ON folds.fold = own_requests.fold
),

own_items AS (
    SELECT
        fold,
        item_id,
        sum(n_requests) AS n
    FROM features.exposure_daily
    GROUP BY fold, item_id
),

all_items AS (
    SELECT
        item_id,
        sum(n) AS n
    FROM own_items
    GROUP BY item_id
)

SELECT
    requests.fold,
    all_items.item_id,
    (all_items.n - coalesce(own_items.n, 0) + $smoothing_a) / (requests.n + $smoothing_b) AS share
FROM requests
CROSS JOIN all_items
LEFT JOIN own_items
    ON requests.fold = own_items.fold AND all_items.item_id = own_items.item_id
UNION ALL
SELECT
    fold,
    NULL AS item_id,
    $smoothing_a / (n + $smoothing_b) AS share
FROM requests

-- grain: one item, fold of users and date of occurrence
-- reads: clean.impressions, as known now
-- note: folds are those of tasks/estimate: what is said of a user is counted on other users
WITH shown AS (
    SELECT
        ds,
        item_id,
        request_id,
        (hash(user_id) % $n_folds)::INTEGER AS fold
    FROM clean.impressions
    WHERE superseded_at IS NULL AND is_shown AND list_contains($days, ds)
),

items AS (
    SELECT
        ds,
        fold,
        item_id,
        count(DISTINCT request_id) AS n_requests
    FROM shown
    GROUP BY ds, fold, item_id
),

folds AS (
    SELECT
        ds,
        fold,
        count(DISTINCT request_id) AS n_fold_requests
    FROM shown
    GROUP BY ds, fold
)

SELECT
    items.item_id,
    items.fold,
    items.n_requests,
    folds.n_fold_requests,
    items.ds
FROM items
INNER JOIN folds USING (ds, fold)
ORDER BY items.ds, items.item_id, items.fold

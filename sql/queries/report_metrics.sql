-- grain: one model, metric and K of the night
-- reads: train.metrics
SELECT
    model,
    model_version,
    metric,
    k,
    round(value, 6) AS score,
    n_users
FROM train.metrics
WHERE ds = $ds
ORDER BY metric, k, model

-- grain: one number about one model's lists of the night
-- reads: train.metrics
SELECT
    model,
    model_version,
    evaluation,
    average,
    metric,
    k,
    segment_kind,
    segment,
    round(value, 6) AS score,
    round(lower, 6) AS low,
    round(upper, 6) AS high,
    n_users,
    n_pairs,
    estimand
FROM train.metrics
WHERE ds = $ds
ORDER BY evaluation, average, metric, k, model, segment_kind, segment

-- grain: one raw column that is not as it was on the delivery date before
-- reads: ops.drift
SELECT
    dataset,
    raw_column,
    change,
    CASE WHEN is_mapped THEN 'yes' ELSE 'no' END AS is_mapped,
    types_before,
    types_now,
    n_before,
    n_now,
    ds_before
FROM ops.drift
WHERE ds = $ds
ORDER BY is_mapped DESC, dataset ASC, raw_column ASC
LIMIT 50

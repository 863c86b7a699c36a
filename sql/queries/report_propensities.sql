-- grain: one estimator and eighth of a decade of the item propensities
-- reads: features.item_propensities
SELECT
    estimator,
    floor(log10(p_exposed) * 8)::INTEGER AS eighth,
    count(*) AS n_items,
    count(*) FILTER (WHERE is_clipped) AS n_clipped
FROM features.item_propensities
WHERE ds = $ds
GROUP BY estimator, eighth
ORDER BY estimator, eighth

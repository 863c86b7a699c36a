-- grain: one estimator of the night's impressions
-- reads: features.impression_propensities
SELECT
    estimator,
    count(*) AS n_impressions,
    count(*) FILTER (WHERE is_clipped) AS n_clipped,
    min(p_exposed) AS least
FROM features.impression_propensities
WHERE ds = $ds
GROUP BY estimator
ORDER BY estimator

-- grain: one shown impression
-- reads: estimated.impressions: what the night's estimator made of the shown impressions
--        (tasks/estimate/propensities.py), from tables up to each impression's own date
-- note: clipped from below: probabilities of slots and of models at a quantile of the day's, for
--       their scale depends on the catalogue; shares, power laws and examination at $clip
WITH clips AS (
    SELECT
        ds,
        estimator,
        CASE
            WHEN estimator IN ('logged', 'logistic', 'boosted')
                THEN quantile_disc(estimate, $clip_quantile)
            ELSE $clip
        END AS clip
    FROM estimated.impressions
    WHERE list_contains($days, ds)
    GROUP BY ds, estimator
)

SELECT
    impressions.impression_id,
    impressions.request_id,
    impressions.user_id,
    impressions.item_id,
    impressions.position,
    impressions.policy,
    impressions.p_logged,
    impressions.estimate AS p_estimated,
    greatest(impressions.estimate, clips.clip) AS p_exposed,
    impressions.estimate < clips.clip AS is_clipped,
    impressions.estimator,
    impressions.ds
FROM estimated.impressions AS impressions
INNER JOIN clips
    ON impressions.ds = clips.ds AND impressions.estimator = clips.estimator
WHERE list_contains($days, impressions.ds)
ORDER BY impressions.ds, impressions.user_id, impressions.impression_id

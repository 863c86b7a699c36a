-- grain: one pair of the holdout that lists may be looked through for
-- reads: train.holdout, features.feedback_daily
-- note: with what its positive impressions after the cut weigh, 0 where it had none: n_random of
--       randomised requests, w_logged sums 1 / p_logged. A probability below 1e-12 is none.
WITH shown AS (
    SELECT
        user_id,
        item_id,
        count(*) FILTER (WHERE list_contains($random_policies::VARCHAR[], policy)) AS n_random,
        sum(CASE WHEN p_logged >= 1e-12 THEN (1 / p_logged)::DECIMAL(38, 12) END) AS w_logged
    FROM features.feedback_daily
    WHERE
        ds > $cut
        AND ds <= $ds
        AND list_has_any(behaviours, $positives::VARCHAR[])
    GROUP BY user_id, item_id
)

SELECT
    holdout.user_id,
    holdout.item_id,
    coalesce(shown.n_random, 0)::DOUBLE AS n_random,
    coalesce(shown.w_logged, 0)::DOUBLE AS w_logged
FROM train.holdout AS holdout
LEFT JOIN shown
    ON holdout.user_id = shown.user_id AND holdout.item_id = shown.item_id
WHERE holdout.ds = $ds AND (holdout.is_new OR $repurchase)
ORDER BY holdout.user_id, holdout.item_id

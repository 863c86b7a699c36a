-- grain: one shown impression
-- reads: estimated.shown
-- note: the policy's own probability of this slot, given what stands above it
SELECT
    impression_id,
    request_id,
    user_id,
    item_id,
    position,
    policy,
    p_logged,
    p_logged AS estimate,
    'logged' AS estimator,
    ds
FROM estimated.shown

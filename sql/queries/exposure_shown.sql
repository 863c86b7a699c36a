-- grain: one shown impression of the day $ds
-- reads: clean.impressions
SELECT
    impression_id,
    request_id,
    user_id,
    item_id,
    position,
    policy,
    p_logged,
    policy_score,
    hour(occurred_at) AS hour,
    (hash(user_id) % $n_folds)::INTEGER AS fold,
    ds
FROM clean.impressions
WHERE superseded_at IS NULL AND is_shown AND ds = $ds

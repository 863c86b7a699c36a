-- grain: one row about the day $ds
-- reads: clean.impressions
SELECT
    count(*) FILTER (WHERE is_shown) AS n_shown,
    count(*) FILTER (WHERE is_shown AND NOT coalesce(p_logged > 0 AND p_logged <= 1, false))
        AS n_without_p_logged,
    count(*) FILTER (WHERE is_shown AND NOT coalesce(isfinite(policy_score), false))
        AS n_without_score,
    count(*) FILTER (WHERE is_shown AND position IS NULL) AS n_without_position
FROM clean.impressions
WHERE superseded_at IS NULL AND ds = $ds

-- grain: one user with a shown impression
-- reads: clean.impressions
-- note: activity, the logarithm of what was shown to the user over the window
SELECT
    user_id,
    ln(1 + count(*)) AS activity
FROM clean.impressions
WHERE superseded_at IS NULL AND is_shown
GROUP BY user_id

-- grain: one user who did or was shown something after the cut
-- reads: features.behaviours_daily, features.feedback_daily
SELECT user_id
FROM features.behaviours_daily
WHERE ds > $cut AND ds <= $ds
UNION
SELECT user_id
FROM features.feedback_daily
WHERE ds > $cut AND ds <= $ds
ORDER BY user_id

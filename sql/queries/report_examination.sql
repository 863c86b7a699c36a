-- grain: one position, by the method that is used
-- reads: features.examination
SELECT
    method,
    position,
    theta,
    se,
    n_slots
FROM features.examination
WHERE ds = $ds AND is_used
ORDER BY position

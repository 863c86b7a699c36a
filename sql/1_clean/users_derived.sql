-- grain: one user who occurs in an event up to $ds
-- reads: clean.events, as known now
-- note: makes clean.users of the night where the shop delivers no user file
SELECT
    user_id,
    NULL::VARCHAR AS age_band,
    NULL::VARCHAR AS country,
    min(ds) AS joined_on,
    min(arrived_at) AS arrived_at,
    NULL::VARCHAR AS extra,
    'derived' AS file_id,
    $ds AS ds
FROM clean.events
WHERE superseded_at IS NULL AND ds <= $ds
GROUP BY user_id
ORDER BY user_id

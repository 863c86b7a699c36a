-- grain: one user, item, behaviour and date of occurrence
-- reads: clean.events, as known now
SELECT
    user_id,
    item_id,
    behaviour,
    count(*) AS n_events,
    min(occurred_at) AS first_at,
    max(occurred_at) AS last_at,
    ds
FROM clean.events
WHERE superseded_at IS NULL AND list_contains($days, ds)
GROUP BY ds, user_id, item_id, behaviour
ORDER BY ds, user_id, item_id, behaviour

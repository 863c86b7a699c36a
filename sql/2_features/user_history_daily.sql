-- grain: one user and date of occurrence
-- reads: clean.events, as known now
SELECT
    user_id,
    count(*) AS n_events,
    list(
        struct_pack(occurred_at := occurred_at, item_id := item_id, behaviour := behaviour)
        ORDER BY occurred_at, behaviour, item_id, event_id
    ) AS steps,
    ds
FROM clean.events
WHERE superseded_at IS NULL AND list_contains($days, ds)
GROUP BY ds, user_id
ORDER BY ds, user_id

-- grain: one item, behaviour (impression among them) and date of occurrence
-- reads: clean.events, clean.impressions, as known now
WITH events AS (
    SELECT
        item_id,
        behaviour,
        count(*) AS n_events,
        count(DISTINCT user_id) AS n_users,
        0 AS n_requests,
        ds
    FROM clean.events
    WHERE superseded_at IS NULL AND list_contains($days, ds)
    GROUP BY ds, item_id, behaviour
),

impressions AS (
    SELECT
        item_id,
        'impression' AS behaviour,
        count(*) AS n_events,
        count(DISTINCT user_id) AS n_users,
        count(DISTINCT request_id) AS n_requests,
        ds
    FROM clean.impressions
    WHERE superseded_at IS NULL AND is_shown AND list_contains($days, ds)
    GROUP BY ds, item_id
)

SELECT * FROM events
UNION ALL
SELECT * FROM impressions
ORDER BY ds, item_id, behaviour

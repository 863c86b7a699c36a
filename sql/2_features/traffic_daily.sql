-- grain: one date of occurrence
-- reads: clean.events, clean.impressions, as known now
WITH events AS (
    SELECT
        ds,
        count(*) AS n_events,
        count(DISTINCT user_id) AS n_users
    FROM clean.events
    WHERE superseded_at IS NULL AND list_contains($days, ds)
    GROUP BY ds
),

impressions AS (
    SELECT
        ds,
        count(*) AS n_impressions,
        count(DISTINCT request_id) AS n_requests
    FROM clean.impressions
    WHERE superseded_at IS NULL AND is_shown AND list_contains($days, ds)
    GROUP BY ds
)

SELECT
    coalesce(events.n_events, 0) AS n_events,
    coalesce(events.n_users, 0) AS n_users,
    coalesce(impressions.n_requests, 0) AS n_requests,
    coalesce(impressions.n_impressions, 0) AS n_impressions,
    ds
FROM events
FULL OUTER JOIN impressions USING (ds)
ORDER BY ds

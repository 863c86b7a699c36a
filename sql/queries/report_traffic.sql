-- grain: one date, the last 60 up to the night
-- reads: features.traffic_daily
SELECT
    ds,
    n_events,
    n_users,
    n_requests,
    n_impressions
FROM features.traffic_daily
WHERE ds BETWEEN $ds - 59 AND $ds
ORDER BY ds

-- grain: one date and behaviour, impressions among them, the last 60 dates up to the night
-- reads: features.popularity_daily
SELECT
    ds,
    behaviour,
    sum(n_events)::BIGINT AS n_events
FROM features.popularity_daily
WHERE ds BETWEEN $ds - 59 AND $ds
GROUP BY ds, behaviour
ORDER BY ds, behaviour

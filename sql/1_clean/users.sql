-- grain: one user known on one date
-- reads: landed and delivery (the files being ingested), clean.users (the dates they touch)
-- note: dates and repeated users as in clean.items
WITH deliveries AS (
    SELECT
        user_id,
        age_band,
        country,
        joined_on,
        arrived_at,
        extra,
        file_id,
        ds,
        false AS is_known
    FROM landed
    WHERE misfit IS NULL
    UNION ALL
    SELECT
        user_id,
        age_band,
        country,
        joined_on,
        arrived_at,
        extra,
        file_id,
        ds,
        true AS is_known
    FROM clean.users
    WHERE file_id NOT IN (SELECT d.file_id FROM delivery AS d) AND file_id <> 'derived'
)

SELECT * EXCLUDE (is_known)
FROM deliveries
QUALIFY
    row_number() OVER (
        PARTITION BY user_id, ds
        ORDER BY
            arrived_at DESC,
            is_known ASC,
            file_id ASC,
            row(age_band, country, joined_on, extra) ASC
    ) = 1
ORDER BY ds, user_id

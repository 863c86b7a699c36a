-- grain: one delivery of one item in one request, shown or logged as a candidate
-- reads: landed and delivery (the files being ingested), clean.impressions (the dates they touch)
-- note: duplicates and later deliveries as in clean.events
WITH deliveries AS (
    SELECT
        impression_id,
        request_id,
        user_id,
        item_id,
        coalesce(is_shown, true) AS is_shown,
        CAST(position AS INTEGER) AS position,
        policy,
        policy_version,
        policy_score,
        p_logged,
        occurred_at,
        arrived_at,
        file_id,
        CAST(occurred_at AS DATE) AS ds,
        false AS is_known
    FROM landed
    WHERE misfit IS NULL
    UNION ALL
    SELECT
        impression_id,
        request_id,
        user_id,
        item_id,
        is_shown,
        position,
        policy,
        policy_version,
        policy_score,
        p_logged,
        occurred_at,
        arrived_at,
        file_id,
        ds,
        true AS is_known
    FROM clean.impressions
    WHERE file_id NOT IN (SELECT d.file_id FROM delivery AS d)
),

contents AS (
    SELECT
        *,
        row(
            request_id, user_id, item_id, is_shown, position,
            policy, policy_version, policy_score, p_logged, occurred_at
        ) AS content
    FROM deliveries
),

compared AS (
    SELECT
        *,
        is_known OR content IS DISTINCT FROM lag(content) OVER same_impression AS is_kept
    FROM contents
    WINDOW same_impression AS (
        PARTITION BY impression_id, ds ORDER BY arrived_at, is_known DESC, content, file_id
    )
),

kept AS (
    SELECT
        impression_id,
        request_id,
        user_id,
        item_id,
        is_shown,
        position,
        policy,
        policy_version,
        policy_score,
        p_logged,
        occurred_at,
        arrived_at,
        lead(arrived_at) OVER same_impression AS superseded_at,
        file_id,
        ds
    FROM compared
    WHERE is_kept
    WINDOW same_impression AS (
        PARTITION BY impression_id, ds ORDER BY arrived_at, is_known DESC, content, file_id
    )
)

SELECT * FROM kept
ORDER BY ds, user_id, occurred_at, impression_id, arrived_at

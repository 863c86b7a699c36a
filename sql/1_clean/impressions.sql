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
        position::INTEGER AS position,
        policy,
        policy_version,
        policy_score,
        p_logged,
        occurred_at,
        arrived_at,
        file_id,
        occurred_at::DATE AS ds,
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
        lag(content) OVER same_impression AS content_before
    FROM contents
    WINDOW same_impression AS (
        PARTITION BY impression_id, ds
        ORDER BY arrived_at ASC, is_known DESC, content ASC, file_id ASC
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
    WHERE is_known OR content IS DISTINCT FROM content_before
    WINDOW same_impression AS (
        PARTITION BY impression_id, ds
        ORDER BY arrived_at ASC, is_known DESC, content ASC, file_id ASC
    )
)

SELECT * FROM kept
ORDER BY ds, user_id, occurred_at, impression_id, arrived_at

-- grain: one delivery of one item in one request, shown or logged as a candidate
-- reads: landed and delivery (the files being ingested), clean.impressions (the dates they touch)
-- note: duplicates and later deliveries as in clean.events
WITH deliveries AS NOT MATERIALIZED (
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
        extra,
        file_id,
        ds,
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
        extra,
        file_id,
        ds,
        true AS is_known
    FROM clean.impressions
    WHERE file_id NOT IN (SELECT d.file_id FROM delivery AS d)
),

repeated AS (
    SELECT hash(impression_id, ds) AS id_hash
    FROM deliveries
    GROUP BY id_hash
    HAVING count(*) > 1
),

once AS NOT MATERIALIZED (
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
        NULL::TIMESTAMPTZ AS superseded_at,
        extra,
        file_id,
        ds
    FROM deliveries
    WHERE hash(impression_id, ds) NOT IN (SELECT r.id_hash FROM repeated AS r)
),

contents AS (
    SELECT
        *,
        row(
            request_id, user_id, item_id, is_shown, position,
            policy, policy_version, policy_score, p_logged, occurred_at, extra
        ) AS content
    FROM deliveries
    WHERE hash(impression_id, ds) IN (SELECT r.id_hash FROM repeated AS r)
),

-- Records may be equal in all that could order them: they are put in order once, by place.
placed AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY impression_id, ds
            ORDER BY arrived_at ASC, is_known DESC, content ASC, file_id ASC
        ) AS place
    FROM contents
),

compared AS (
    SELECT
        *,
        lag(content) OVER (PARTITION BY impression_id, ds ORDER BY place) AS content_before
    FROM placed
),

runs AS (
    SELECT
        *,
        count(*) FILTER (content IS DISTINCT FROM content_before) OVER (
            PARTITION BY impression_id, ds
            ORDER BY place
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS run
    FROM compared
),

kept AS (
    SELECT *
    FROM runs
    QUALIFY
        is_known OR row_number() OVER (
            PARTITION BY impression_id, ds, run
            ORDER BY is_known DESC, place ASC
        ) = 1
),

several AS (
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
        extra,
        file_id,
        ds
    FROM kept
    WINDOW same_impression AS (
        PARTITION BY impression_id, ds
        ORDER BY arrived_at ASC, is_known DESC, content ASC, file_id ASC
    )
)

SELECT * FROM once
UNION ALL
SELECT * FROM several

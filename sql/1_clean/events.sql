-- grain: one delivery of one event
-- reads: landed and delivery (the files being ingested), clean.events (the dates they touch)
-- note: an exact duplicate is equal in all but its arrival, and is dropped; a later delivery that
--       differs supersedes the earlier one. Rows of the files being ingested are made anew. Only
--       ids that occur twice are compared: the hash of an id tells them from the others.
WITH deliveries AS NOT MATERIALIZED (
    SELECT
        event_id,
        user_id,
        item_id,
        behaviour,
        occurred_at,
        arrived_at,
        request_id,
        session_id,
        value,
        extra,
        file_id,
        ds,
        false AS is_known
    FROM landed
    WHERE misfit IS NULL
    UNION ALL
    SELECT
        event_id,
        user_id,
        item_id,
        behaviour,
        occurred_at,
        arrived_at,
        request_id,
        session_id,
        value,
        extra,
        file_id,
        ds,
        true AS is_known
    FROM clean.events
    WHERE file_id NOT IN (SELECT d.file_id FROM delivery AS d)
),

repeated AS (
    SELECT hash(event_id, ds) AS id_hash
    FROM deliveries
    GROUP BY id_hash
    HAVING count(*) > 1
),

once AS NOT MATERIALIZED (
    SELECT
        event_id,
        user_id,
        item_id,
        behaviour,
        occurred_at,
        arrived_at,
        NULL::TIMESTAMPTZ AS superseded_at,
        request_id,
        session_id,
        value,
        extra,
        file_id,
        ds
    FROM deliveries
    WHERE hash(event_id, ds) NOT IN (SELECT r.id_hash FROM repeated AS r)
),

contents AS (
    SELECT
        *,
        row(
            user_id, item_id, behaviour, occurred_at, request_id, session_id, value, extra
        ) AS content
    FROM deliveries
    WHERE hash(event_id, ds) IN (SELECT r.id_hash FROM repeated AS r)
),

-- Records may be equal in all that could order them: they are put in order once, by place.
placed AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY event_id, ds
            ORDER BY arrived_at ASC, is_known DESC, content ASC, file_id ASC
        ) AS place
    FROM contents
),

compared AS (
    SELECT
        *,
        lag(content) OVER (PARTITION BY event_id, ds ORDER BY place) AS content_before
    FROM placed
),

runs AS (
    SELECT
        *,
        count(*) FILTER (content IS DISTINCT FROM content_before) OVER (
            PARTITION BY event_id, ds
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
            PARTITION BY event_id, ds, run
            ORDER BY is_known DESC, place ASC
        ) = 1
),

several AS (
    SELECT
        event_id,
        user_id,
        item_id,
        behaviour,
        occurred_at,
        arrived_at,
        lead(arrived_at) OVER same_event AS superseded_at,
        request_id,
        session_id,
        value,
        extra,
        file_id,
        ds
    FROM kept
    WINDOW same_event AS (
        PARTITION BY event_id, ds
        ORDER BY arrived_at ASC, is_known DESC, content ASC, file_id ASC
    )
)

SELECT * FROM once
UNION ALL
SELECT * FROM several

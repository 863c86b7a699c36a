-- grain: one delivery of one event
-- reads: landed and delivery (the files being ingested), clean.events (the dates they touch)
-- note: an exact duplicate is equal in all but its arrival, and is dropped; a later delivery that
--       differs supersedes the earlier one. Rows of the files being ingested are made anew.
WITH deliveries AS (
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
        file_id,
        occurred_at::DATE AS ds,
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
        file_id,
        ds,
        true AS is_known
    FROM clean.events
    WHERE file_id NOT IN (SELECT d.file_id FROM delivery AS d)
),

contents AS (
    SELECT
        *,
        row(user_id, item_id, behaviour, occurred_at, request_id, session_id, value) AS content
    FROM deliveries
),

compared AS (
    SELECT
        *,
        lag(content) OVER same_event AS content_before
    FROM contents
    WINDOW same_event AS (
        PARTITION BY event_id, ds ORDER BY arrived_at ASC, is_known DESC, content ASC, file_id ASC
    )
),

kept AS (
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
        file_id,
        ds
    FROM compared
    WHERE is_known OR content IS DISTINCT FROM content_before
    WINDOW same_event AS (
        PARTITION BY event_id, ds ORDER BY arrived_at ASC, is_known DESC, content ASC, file_id ASC
    )
)

SELECT * FROM kept
ORDER BY ds, user_id, occurred_at, event_id, arrived_at

-- grain: one positive behaviour that followed from a slot with a logged probability
-- reads: features.feedback_daily
WITH followed AS (
    SELECT unnest(behaviours) AS behaviour
    FROM features.feedback_daily
    WHERE
        ds BETWEEN $since AND $ds
        AND p_logged IS NOT NULL
        AND position IS NOT NULL
)

SELECT
    behaviour,
    count(*) AS n_slots
FROM followed
WHERE list_contains($positives, behaviour)
GROUP BY behaviour
ORDER BY n_slots DESC, behaviour ASC

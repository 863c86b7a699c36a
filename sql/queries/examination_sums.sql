-- grain: one fold of users, item and position
-- reads: features.feedback_daily
-- note: a slot is clicked where any behaviour followed from the request on the item. w is 1 / p
--       where every slot has a logged probability, else 1: weighted so, an item stands at each
--       position before the same users.
WITH facts AS (
    SELECT count(*) = count(p_logged) AS is_logged
    FROM features.feedback_daily
    WHERE ds BETWEEN $since AND $ds AND position IS NOT NULL
),

slots AS (
    SELECT
        feedback.item_id,
        feedback.position,
        (hash(feedback.user_id) % $n_folds)::INTEGER AS fold,
        len(feedback.behaviours) > 0 AS is_clicked,
        CASE WHEN facts.is_logged THEN least(1 / feedback.p_logged, 1e9) ELSE 1 END AS w
    FROM features.feedback_daily AS feedback
    CROSS JOIN facts
    WHERE feedback.ds BETWEEN $since AND $ds AND feedback.position IS NOT NULL
)

SELECT
    fold,
    item_id,
    position,
    count(*) AS n_slots,
    count(*) FILTER (WHERE is_clicked) AS n_clicks,
    sum(w::DECIMAL(38, 12))::DOUBLE AS w,
    coalesce(sum(w::DECIMAL(38, 12)) FILTER (WHERE is_clicked), 0)::DOUBLE AS w_clicks
FROM slots
GROUP BY fold, item_id, position
ORDER BY fold, item_id, position

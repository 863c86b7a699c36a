-- grain: one user, at the first position or below, with a slot whose probability was logged
-- reads: features.feedback_daily, stated.eligible, stated.repeats, stated.item_weights,
--        stated.user_weights, imputed.positions, imputed.items
-- note: the stated policy fills each slot of the log, given what stands above it, with an eligible
--       item that is still free: in proportion to the item's weight plus the user's own for it.
--       Symbols as in tasks/estimate/values.py. An item that is not eligible by the catalogue of
--       its date has weight 0, and so has one that stands above already (a request that was logged
--       twice), and a slot where nothing free has any weight. Where no other
--       user is there to fit on, the imputed reward is 0, and DR is IPS. Sums are of decimals:
--       those of floats depend on the order in which threads come to them. A weight above 1e9, of
--       a logged probability that is next to nothing, counts as 1e9: its slot outweighs all others
--       just as well, which the effective number of slots tells, and squares of it can be added.
WITH eligible AS (
    SELECT
        days.ds,
        days.item_id,
        coalesce(weights.weight, 0) AS weight
    FROM stated.eligible AS days
    LEFT JOIN stated.item_weights AS weights ON days.item_id = weights.item_id
),

folds AS (
    SELECT range::UBIGINT AS fold
    FROM range($n_folds)
),

of_all AS (
    SELECT
        eligible.ds,
        folds.fold,
        sum(eligible.weight::DECIMAL(38, 12))::DOUBLE AS weight,
        sum((eligible.weight * coalesce(rates.rate, 1))::DECIMAL(38, 12))::DOUBLE AS reward
    FROM eligible
    CROSS JOIN folds
    LEFT JOIN imputed.items AS rates
        ON folds.fold = rates.fold AND eligible.item_id = rates.item_id
    GROUP BY eligible.ds, folds.fold
),

visits AS (
    SELECT DISTINCT
        ds,
        user_id,
        hash(user_id) % $n_folds AS fold
    FROM features.feedback_daily
    WHERE ds BETWEEN $since AND $ds
),

of_user AS (
    SELECT
        visits.ds,
        visits.user_id,
        sum(own.weight::DECIMAL(38, 12))::DOUBLE AS weight,
        sum((own.weight * coalesce(rates.rate, 1))::DECIMAL(38, 12))::DOUBLE AS reward
    FROM visits
    INNER JOIN stated.user_weights AS own ON visits.user_id = own.user_id
    INNER JOIN eligible ON visits.ds = eligible.ds AND own.item_id = eligible.item_id
    LEFT JOIN imputed.items AS rates
        ON visits.fold = rates.fold AND own.item_id = rates.item_id
    GROUP BY visits.ds, visits.user_id
),

slots AS (
    SELECT
        feedback.ds,
        feedback.impression_id,
        feedback.request_id,
        feedback.user_id,
        feedback.position,
        feedback.p_logged,
        hash(feedback.user_id) % $n_folds AS fold,
        list_contains(feedback.behaviours, $behaviour)::INTEGER AS y,
        CASE
            WHEN
                eligible.item_id IS NOT NULL AND repeats.impression_id IS NULL
                THEN eligible.weight + coalesce(own.weight, 0)
            ELSE 0
        END AS weight,
        coalesce(rates.rate, 1) AS rate
    FROM features.feedback_daily AS feedback
    LEFT JOIN eligible
        ON feedback.ds = eligible.ds AND feedback.item_id = eligible.item_id
    LEFT JOIN stated.repeats AS repeats
        ON feedback.ds = repeats.ds AND feedback.impression_id = repeats.impression_id
    LEFT JOIN stated.user_weights AS own
        ON feedback.user_id = own.user_id AND feedback.item_id = own.item_id
    LEFT JOIN imputed.items AS rates
        ON
            hash(feedback.user_id) % $n_folds = rates.fold
            AND feedback.item_id = rates.item_id
    WHERE feedback.ds BETWEEN $since AND $ds AND feedback.position IS NOT NULL
),

placed AS (
    SELECT
        *,
        sum(weight) OVER above AS weight_above,
        sum(weight * rate) OVER above AS reward_above
    FROM slots
    WINDOW above AS (
        PARTITION BY ds, request_id
        ORDER BY position, impression_id
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),

stated AS (
    SELECT
        placed.user_id,
        placed.position = 1 AS is_first,
        placed.y,
        placed.weight / placed.p_logged AS odds,
        coalesce(positions.rate, 0) * placed.rate AS q,
        coalesce(positions.rate, 0) AS position_rate,
        coalesce(of_all.weight, 0) + coalesce(of_user.weight, 0)
        - coalesce(placed.weight_above, 0) AS free,
        coalesce(of_all.reward, 0) + coalesce(of_user.reward, 0)
        - coalesce(placed.reward_above, 0) AS free_reward
    FROM placed
    LEFT JOIN of_all ON placed.ds = of_all.ds AND placed.fold = of_all.fold
    LEFT JOIN imputed.positions AS positions
        ON placed.fold = positions.fold AND placed.position = positions.position
    LEFT JOIN of_user ON placed.ds = of_user.ds AND placed.user_id = of_user.user_id
    WHERE placed.p_logged IS NOT NULL
),

weighed AS (
    SELECT
        user_id,
        is_first,
        y,
        q,
        CASE WHEN free > 1e-9 THEN least(odds / free, 1e9) ELSE 0 END AS w,
        CASE WHEN free > 1e-9 THEN position_rate * free_reward / free ELSE 0 END AS d
    FROM stated
)

SELECT
    user_id,
    is_first,
    count(*) AS n,
    sum(y) AS y,
    sum(w::DECIMAL(38, 12)) AS w,
    sum((w * y)::DECIMAL(38, 12)) AS wy,
    sum((w * w)::DECIMAL(38, 12)) AS ww,
    sum((least(w, $most_weight) * y)::DECIMAL(38, 12)) AS w_clipped_y,
    sum((d + w * (y - q))::DECIMAL(38, 12)) AS dr,
    max(w) AS w_max
FROM weighed
GROUP BY user_id, is_first

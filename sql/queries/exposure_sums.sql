-- grain: one kind of weight and tenth of the population by popularity
-- reads: clean.impressions, features.item_propensities, features.popularity_daily, stated.eligible
-- note: the population is every eligible item of every request that logged items not shown: the
--       shown ones, and the rest through those logged, each of which stands for as many as are
--       left. Weighted, what was shown should look like it. The weight of a shown item is 1 / e of
--       its item propensity, or of the logged probability 1 / (p n), n the items that were free.
WITH eligible AS (
    SELECT
        ds,
        count(*) AS n_eligible
    FROM stated.eligible
    GROUP BY ds
),

popularity AS (
    SELECT
        item_id,
        sum(n_events) FILTER (WHERE behaviour <> 'impression') AS n_events
    FROM features.popularity_daily
    GROUP BY item_id
),

rows_of_requests AS (
    SELECT
        *,
        count(*) FILTER (WHERE is_shown) OVER request AS n_shown,
        count(*) FILTER (WHERE NOT is_shown) OVER request AS n_not_shown,
        count(*) FILTER (WHERE is_shown) OVER (PARTITION BY user_id) AS n_of_user
    FROM clean.impressions
    WHERE superseded_at IS NULL AND ds BETWEEN $since AND $ds
    WINDOW request AS (PARTITION BY ds, request_id)
),

candidates AS (
    SELECT
        shown.is_shown,
        items.p_exposed AS e,
        items.is_clipped,
        CASE
            WHEN shown.is_shown THEN 1.0
            ELSE greatest(eligible.n_eligible - shown.n_shown, 0) / shown.n_not_shown
        END AS m,
        1 / (shown.p_logged * greatest(eligible.n_eligible - shown.position + 1, 1)) AS w_logged,
        shown.policy_score,
        ln(1 + coalesce(popularity.n_events, 0)) AS popularity,
        ln(1 + shown.n_of_user) AS activity
    FROM rows_of_requests AS shown
    INNER JOIN eligible ON shown.ds = eligible.ds
    INNER JOIN features.item_propensities AS items ON shown.item_id = items.item_id
    LEFT JOIN popularity ON shown.item_id = popularity.item_id
    WHERE shown.n_not_shown > 0
),

tenths AS (
    SELECT
        *,
        least(floor(10 * percent_rank() OVER (ORDER BY popularity)), 9) AS tenth
    FROM candidates
),

weighed AS (
    SELECT
        *,
        'item propensity' AS weight,
        if(is_shown, 1 / e, 0) AS w
    FROM tenths
    UNION ALL
    SELECT
        *,
        'logged probability' AS weight,
        if(is_shown, w_logged, 0) AS w
    FROM tenths
    WHERE NOT is_shown OR w_logged IS NOT NULL
)

SELECT
    weight,
    tenth::INTEGER AS tenth,
    count(*) FILTER (WHERE is_shown) AS n_shown,
    count(*) FILTER (WHERE is_shown AND is_clipped) AS n_clipped,
    sum(m::DECIMAL(38, 12))::DOUBLE AS m,
    sum((m * e)::DECIMAL(38, 12))::DOUBLE AS me,
    sum(w::DECIMAL(38, 12))::DOUBLE AS w,
    sum((w * w)::DECIMAL(38, 12))::DOUBLE AS ww,
    count(*) AS n_rows,
    count(policy_score) AS n_policy_score,
    max(w) FILTER (WHERE is_shown) AS w_max,
    sum((m * popularity)::DECIMAL(38, 12))::DOUBLE AS m_popularity,
    sum((m * popularity * popularity)::DECIMAL(38, 12))::DOUBLE AS mm_popularity,
    sum(if(is_shown, popularity, 0)::DECIMAL(38, 12))::DOUBLE AS s_popularity,
    sum((w * popularity)::DECIMAL(38, 12))::DOUBLE AS w_popularity,
    sum((m * activity)::DECIMAL(38, 12))::DOUBLE AS m_activity,
    sum((m * activity * activity)::DECIMAL(38, 12))::DOUBLE AS mm_activity,
    sum(if(is_shown, activity, 0)::DECIMAL(38, 12))::DOUBLE AS s_activity,
    sum((w * activity)::DECIMAL(38, 12))::DOUBLE AS w_activity,
    sum((m * policy_score)::DECIMAL(38, 12))::DOUBLE AS m_policy_score,
    sum((m * policy_score * policy_score)::DECIMAL(38, 12))::DOUBLE AS mm_policy_score,
    sum(if(is_shown, policy_score, 0)::DECIMAL(38, 12))::DOUBLE AS s_policy_score,
    sum((w * policy_score)::DECIMAL(38, 12))::DOUBLE AS w_policy_score
FROM weighed
GROUP BY weight, tenth
ORDER BY weight, tenth

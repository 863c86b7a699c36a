-- grain: one kind of weight, and all rows, one tenth by popularity, or one tenth by activity
-- reads: clean.impressions, features.item_propensities, features.impression_propensities,
--        features.popularity_daily, stated.eligible
-- note: the population is every eligible item of every request that logged items not shown: the
--       shown ones, and the rest through those logged, each of which stands for as many as are
--       left. Weighted, what was shown should look like it. The weight of a shown item is 1 / e of
--       its item propensity; of a slot it is 1 / (p n) of its logged probability, n the items that
--       were free; of an impression propensity it is that where the estimate is of slots (logged),
--       and else (n shown / n eligible) / e. Populations of the last two count each request by its
--       slots, so that all weights have the mean 1 of their population where they are right. A
--       weight counts as 1e9 at most. The policy's score may have any unit: it is told from 0, the
--       lowest, to 1. Squares of weights below a thousandth, as of a policy that never chances in a
--       catalogue of millions, are summed apart: decimals have twelve places.
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

scores AS (
    SELECT
        min(policy_score) AS lowest,
        nullif(max(policy_score) / 2 - min(policy_score) / 2, 0) AS half_range
    FROM clean.impressions
    WHERE superseded_at IS NULL AND ds BETWEEN $since AND $ds
),

impressions AS (
    SELECT
        impressions.* REPLACE (
            (impressions.policy_score / 2 - scores.lowest / 2) / scores.half_range AS policy_score
        ),
        estimates.p_exposed,
        estimates.p_estimated,
        estimates.is_clipped,
        estimates.estimator
    FROM clean.impressions AS impressions
    CROSS JOIN scores
    LEFT JOIN features.impression_propensities AS estimates
        ON
            impressions.ds = estimates.ds
            AND impressions.impression_id = estimates.impression_id
            AND impressions.is_shown
    WHERE impressions.superseded_at IS NULL AND impressions.ds BETWEEN $since AND $ds
),

rows_of_requests AS (
    SELECT
        *,
        count(*) FILTER (WHERE is_shown) OVER request AS n_shown,
        count(*) FILTER (WHERE NOT is_shown) OVER request AS n_not_shown,
        count(p_logged) FILTER (WHERE is_shown) OVER request AS n_logged,
        count(p_exposed) OVER request AS n_estimated,
        count(*) FILTER (WHERE is_shown) OVER (PARTITION BY user_id) AS n_of_user
    FROM impressions
    WINDOW request AS (PARTITION BY ds, request_id)
),

candidates AS (
    SELECT
        hash(shown.impression_id) % $every = 0 AS is_sampled,
        shown.is_shown,
        items.p_exposed AS e,
        items.is_clipped AS is_item_clipped,
        shown.is_clipped,
        shown.estimator,
        CASE
            WHEN shown.is_shown THEN 1.0
            ELSE greatest(eligible.n_eligible - shown.n_shown, 0) / shown.n_not_shown
        END AS m,
        shown.n_shown / eligible.n_eligible AS slots_per_item,
        shown.n_logged = shown.n_shown AS has_logged,
        shown.n_estimated = shown.n_shown AS has_estimates,
        1 / greatest(eligible.n_eligible - coalesce(shown.position, 1) + 1, 1) AS p_uniform,
        shown.p_logged,
        shown.p_exposed,
        shown.p_estimated,
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
        if(estimator = 'logged', p_uniform, slots_per_item) AS p_even,
        least(floor(10 * percent_rank() OVER (ORDER BY popularity)), 9)::INTEGER AS by_popularity,
        least(floor(10 * percent_rank() OVER (ORDER BY activity)), 9)::INTEGER AS by_activity
    FROM candidates
),

kinds AS (
    SELECT unnest(['item propensity', 'logged probability', 'impression propensity']) AS weight
),

-- One pass over the rows for all three: a union would keep them all on disk.
weighed AS (
    SELECT
        tenths.is_shown,
        tenths.is_sampled,
        tenths.by_popularity,
        tenths.by_activity,
        tenths.popularity,
        tenths.activity,
        tenths.policy_score,
        kinds.weight,
        CASE kinds.weight
            WHEN 'item propensity' THEN tenths.is_item_clipped
            WHEN 'logged probability' THEN false
            ELSE tenths.is_clipped
        END AS is_clipped,
        CASE WHEN kinds.weight = 'impression propensity' THEN tenths.estimator END AS estimator,
        CASE
            WHEN kinds.weight = 'item propensity' THEN tenths.m
            ELSE tenths.m * tenths.slots_per_item
        END AS m,
        CASE WHEN kinds.weight = 'item propensity' THEN tenths.m * tenths.e END AS me,
        CASE
            WHEN NOT tenths.is_shown THEN 0
            WHEN kinds.weight = 'item propensity' THEN 1 / tenths.e
            WHEN kinds.weight = 'logged probability'
                THEN least(tenths.p_uniform / tenths.p_logged, 1e9)
            ELSE least(tenths.p_even / tenths.p_exposed, 1e9)
        END AS w,
        CASE
            WHEN kinds.weight <> 'impression propensity' THEN NULL
            WHEN NOT tenths.is_shown THEN 0
            ELSE least(tenths.p_even / greatest(tenths.p_estimated, 1e-300), 1e9)
        END AS w_raw
    FROM tenths
    CROSS JOIN kinds
    WHERE
        kinds.weight = 'item propensity'
        OR (kinds.weight = 'logged probability' AND tenths.has_logged)
        OR (kinds.weight = 'impression propensity' AND tenths.has_estimates)
),

cells AS (
    SELECT
        weight,
        by_popularity,
        by_activity,
        list(DISTINCT estimator) FILTER (WHERE estimator IS NOT NULL) AS estimators,
        count(*) FILTER (WHERE is_shown) AS n_shown,
        count(*) FILTER (WHERE is_shown AND is_clipped) AS n_clipped,
        count(*) AS n_rows,
        count(policy_score) AS n_policy_score,
        min(w) FILTER (WHERE is_shown) AS w_min,
        list(w) FILTER (WHERE is_shown AND is_sampled) AS ws,
        max(w) FILTER (WHERE is_shown) AS w_max,
        max(w_raw) FILTER (WHERE is_shown) AS w_raw_max,
        sum(m::DECIMAL(38, 12)) AS m,
        sum(me::DECIMAL(38, 12)) AS me,
        sum(w::DECIMAL(38, 12)) AS w,
        sum(if(w < 1e-3, 0, w * w)::DECIMAL(38, 12)) AS ww,
        sum(if(w < 1e-3, 1e12 * w * w, 0)::DECIMAL(38, 12)) AS ww_small,
        sum(w_raw::DECIMAL(38, 12)) AS w_raw,
        sum(if(w_raw < 1e-3, 0, w_raw * w_raw)::DECIMAL(38, 12)) AS ww_raw,
        sum(if(w_raw < 1e-3, 1e12 * w_raw * w_raw, 0)::DECIMAL(38, 12)) AS ww_raw_small,
        sum((m * popularity)::DECIMAL(38, 12)) AS m_popularity,
        sum((m * popularity * popularity)::DECIMAL(38, 12)) AS mm_popularity,
        sum(if(is_shown, popularity, 0)::DECIMAL(38, 12)) AS s_popularity,
        sum((w * popularity)::DECIMAL(38, 12)) AS w_popularity,
        sum((m * activity)::DECIMAL(38, 12)) AS m_activity,
        sum((m * activity * activity)::DECIMAL(38, 12)) AS mm_activity,
        sum(if(is_shown, activity, 0)::DECIMAL(38, 12)) AS s_activity,
        sum((w * activity)::DECIMAL(38, 12)) AS w_activity,
        sum((m * policy_score)::DECIMAL(38, 12)) AS m_policy_score,
        sum((m * policy_score * policy_score)::DECIMAL(38, 12)) AS mm_policy_score,
        sum(if(is_shown, policy_score, 0)::DECIMAL(38, 12)) AS s_policy_score,
        sum((w * policy_score)::DECIMAL(38, 12)) AS w_policy_score
    FROM weighed
    GROUP BY weight, by_popularity, by_activity
)

SELECT
    weight,
    CASE
        WHEN grouping(by_popularity) = 0 THEN 'popularity'
        WHEN grouping(by_activity) = 0 THEN 'activity'
        ELSE 'all rows'
    END AS about,
    coalesce(by_popularity, by_activity) AS tenth,
    nullif(array_to_string(list_sort(list_distinct(flatten(list(estimators)))), ', '), '')
        AS estimators,
    sum(n_shown)::BIGINT AS n_shown,
    sum(n_clipped)::BIGINT AS n_clipped,
    sum(n_rows)::BIGINT AS n_rows,
    sum(n_policy_score)::BIGINT AS n_policy_score,
    min(w_min) AS w_min,
    list_aggregate(flatten(list(ws)), 'quantile_disc', 0.5) AS w_median,
    max(w_max) AS w_max,
    max(w_raw_max) AS w_raw_max,
    sum(m)::DOUBLE AS m,
    sum(me)::DOUBLE AS me,
    sum(w)::DOUBLE AS w,
    sum(ww)::DOUBLE + sum(ww_small)::DOUBLE / 1e12 AS ww,
    sum(w_raw)::DOUBLE AS w_raw,
    sum(ww_raw)::DOUBLE + sum(ww_raw_small)::DOUBLE / 1e12 AS ww_raw,
    sum(m_popularity)::DOUBLE AS m_popularity,
    sum(mm_popularity)::DOUBLE AS mm_popularity,
    sum(s_popularity)::DOUBLE AS s_popularity,
    sum(w_popularity)::DOUBLE AS w_popularity,
    sum(m_activity)::DOUBLE AS m_activity,
    sum(mm_activity)::DOUBLE AS mm_activity,
    sum(s_activity)::DOUBLE AS s_activity,
    sum(w_activity)::DOUBLE AS w_activity,
    sum(m_policy_score)::DOUBLE AS m_policy_score,
    sum(mm_policy_score)::DOUBLE AS mm_policy_score,
    sum(s_policy_score)::DOUBLE AS s_policy_score,
    sum(w_policy_score)::DOUBLE AS w_policy_score
FROM cells
GROUP BY GROUPING SETS ((weight), (weight, by_popularity), (weight, by_activity))
ORDER BY weight, about, tenth

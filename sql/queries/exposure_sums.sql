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
--       weight counts as 1e9 at most.
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

impressions AS (
    SELECT
        impressions.*,
        estimates.p_exposed,
        estimates.p_estimated,
        estimates.is_clipped,
        estimates.estimator
    FROM clean.impressions AS impressions
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
        shown.impression_id,
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

weighed AS (
    SELECT
        * REPLACE (is_item_clipped AS is_clipped, NULL AS estimator),
        'item propensity' AS weight,
        m AS m_each,
        m * e AS me,
        if(is_shown, 1 / e, 0) AS w,
        NULL::DOUBLE AS w_raw
    FROM tenths
    UNION ALL
    SELECT
        * REPLACE (false AS is_clipped, NULL AS estimator),
        'logged probability' AS weight,
        m * slots_per_item AS m_each,
        NULL AS me,
        if(is_shown, least(p_uniform / p_logged, 1e9), 0) AS w,
        NULL AS w_raw
    FROM tenths
    WHERE has_logged
    UNION ALL
    SELECT
        *,
        'impression propensity' AS weight,
        m * slots_per_item AS m_each,
        NULL AS me,
        if(is_shown, least(p_even / p_exposed, 1e9), 0) AS w,
        if(is_shown, least(p_even / greatest(p_estimated, 1e-300), 1e9), 0) AS w_raw
    FROM tenths
    WHERE has_estimates
)

SELECT
    weight,
    CASE
        WHEN grouping(by_popularity) = 0 THEN 'popularity'
        WHEN grouping(by_activity) = 0 THEN 'activity'
        ELSE 'all rows'
    END AS about,
    coalesce(by_popularity, by_activity) AS tenth,
    string_agg(DISTINCT estimator, ', ' ORDER BY estimator) AS estimators,
    count(*) FILTER (WHERE is_shown) AS n_shown,
    count(*) FILTER (WHERE is_shown AND is_clipped) AS n_clipped,
    sum(m_each::DECIMAL(38, 12))::DOUBLE AS m,
    sum(me::DECIMAL(38, 12))::DOUBLE AS me,
    sum(w::DECIMAL(38, 12))::DOUBLE AS w,
    sum((w * w)::DECIMAL(38, 12))::DOUBLE AS ww,
    sum(w_raw::DECIMAL(38, 12))::DOUBLE AS w_raw,
    sum((w_raw * w_raw)::DECIMAL(38, 12))::DOUBLE AS ww_raw,
    count(*) AS n_rows,
    count(policy_score) AS n_policy_score,
    min(w) FILTER (WHERE is_shown) AS w_min,
    quantile_disc(w, 0.5) FILTER (WHERE is_shown AND hash(impression_id) % $every = 0) AS w_median,
    max(w) FILTER (WHERE is_shown) AS w_max,
    max(w_raw) FILTER (WHERE is_shown) AS w_raw_max,
    sum((m_each * popularity)::DECIMAL(38, 12))::DOUBLE AS m_popularity,
    sum((m_each * popularity * popularity)::DECIMAL(38, 12))::DOUBLE AS mm_popularity,
    sum(if(is_shown, popularity, 0)::DECIMAL(38, 12))::DOUBLE AS s_popularity,
    sum((w * popularity)::DECIMAL(38, 12))::DOUBLE AS w_popularity,
    sum((m_each * activity)::DECIMAL(38, 12))::DOUBLE AS m_activity,
    sum((m_each * activity * activity)::DECIMAL(38, 12))::DOUBLE AS mm_activity,
    sum(if(is_shown, activity, 0)::DECIMAL(38, 12))::DOUBLE AS s_activity,
    sum((w * activity)::DECIMAL(38, 12))::DOUBLE AS w_activity,
    sum((m_each * policy_score)::DECIMAL(38, 12))::DOUBLE AS m_policy_score,
    sum((m_each * policy_score * policy_score)::DECIMAL(38, 12))::DOUBLE AS mm_policy_score,
    sum(if(is_shown, policy_score, 0)::DECIMAL(38, 12))::DOUBLE AS s_policy_score,
    sum((w * policy_score)::DECIMAL(38, 12))::DOUBLE AS w_policy_score
FROM weighed
GROUP BY GROUPING SETS ((weight), (weight, by_popularity), (weight, by_activity))
ORDER BY weight, about, tenth

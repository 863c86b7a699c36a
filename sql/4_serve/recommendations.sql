-- grain: one rank of one active user in release $release_id
-- reads: serve.candidates, serve.active_users, serve.eligible_items, serve.seen_items,
--        train.examples, train.holdout
-- note: the rules run here, last: in the catalogue and in stock, not seen, then the published
--       model's list, then the cold model's, as far as the first leaves ranks open
WITH passed AS (
    SELECT
        candidates.*,
        candidates.model = $model AS is_chosen
    FROM serve.candidates AS candidates
    INNER JOIN serve.active_users USING (user_id)
    INNER JOIN serve.eligible_items USING (item_id)
    ANTI JOIN serve.seen_items AS seen
        ON candidates.user_id = seen.user_id AND candidates.item_id = seen.item_id
    WHERE candidates.model IN ($model, $cold_model)
),

once AS (
    SELECT *
    FROM passed
    QUALIFY row_number() OVER (PARTITION BY user_id, item_id ORDER BY is_chosen DESC, model ASC) = 1
),

chosen AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY user_id ORDER BY is_chosen DESC, rank ASC, item_id ASC
        ) AS final_rank
    FROM once
),

positives AS (
    SELECT
        user_id,
        item_id,
        last_at
    FROM train.examples
    UNION ALL
    SELECT
        user_id,
        item_id,
        last_at
    FROM train.holdout
),

liked_items AS (
    SELECT
        item_id,
        count(DISTINCT user_id) AS n_users
    FROM positives
    GROUP BY item_id
),

own AS (
    SELECT
        user_id,
        item_id,
        max(last_at) AS last_at
    FROM positives
    GROUP BY user_id, item_id
)

SELECT
    $release_id AS release_id,
    $ds AS ds,
    chosen.user_id,
    chosen.final_rank::INTEGER AS rank,
    chosen.item_id,
    chosen.score,
    chosen.model,
    chosen.model_version,
    CASE
        WHEN chosen.model = $published THEN 'model'
        WHEN chosen.is_chosen THEN 'fallback'
        ELSE 'cold fill'
    END AS source,
    {
        'kind': CASE
            WHEN own.last_at IS NOT NULL THEN 'return'
            WHEN chosen.model = 'popularity' THEN 'popularity'
            ELSE 'taste'
        END,
        'n_users': coalesce(liked_items.n_users, 0),
        'last_at': own.last_at
    } AS reasons,
    CASE
        WHEN $repurchase THEN ['in catalogue', 'in stock', 'repurchase allowed']
        ELSE ['in catalogue', 'in stock', 'not seen']
    END AS rule_trace,
    NULL::DOUBLE AS p_shown
FROM chosen
LEFT JOIN liked_items USING (item_id)
LEFT JOIN own ON chosen.user_id = own.user_id AND chosen.item_id = own.item_id
WHERE chosen.final_rank <= $k
ORDER BY chosen.user_id, chosen.final_rank

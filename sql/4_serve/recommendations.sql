-- grain: one rank of one active user, $first_user to $last_user, in release $release_id
-- reads: serve.candidates, serve.active_users, serve.eligible_items, serve.seen_items,
--        train.examples, train.holdout
-- note: the rules run here, last: in the catalogue and in stock, not seen, then the published
--       model's list, then the cold model's, as far as the first leaves ranks open
WITH passed AS NOT MATERIALIZED (
    SELECT
        candidates.*,
        candidates.model = $model AS is_chosen
    FROM serve.candidates AS candidates
    SEMI JOIN serve.active_users AS active ON candidates.user_id = active.user_id
    SEMI JOIN serve.eligible_items AS eligible ON candidates.item_id = eligible.item_id
    ANTI JOIN serve.seen_items AS seen
        ON candidates.user_id = seen.user_id AND candidates.item_id = seen.item_id
    WHERE candidates.user_id BETWEEN $first_user AND $last_user
),

filled AS (
    SELECT user_id
    FROM passed
    WHERE is_chosen
    GROUP BY user_id
    HAVING count(*) >= $k
),

-- Few users need them: the rules above are run again rather than their rows kept.
cold AS (
    SELECT passed.*
    FROM passed
    ANTI JOIN filled ON passed.user_id = filled.user_id
    ANTI JOIN serve.candidates AS listed
        ON
            passed.user_id = listed.user_id
            AND passed.item_id = listed.item_id
            AND listed.model = $model
    WHERE passed.model = $cold_model AND NOT passed.is_chosen
),

candidates AS NOT MATERIALIZED (
    SELECT *
    FROM passed
    WHERE is_chosen
    UNION ALL
    SELECT *
    FROM cold
),

chosen AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY user_id ORDER BY is_chosen DESC, rank ASC, item_id ASC
        ) AS final_rank
    FROM candidates
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
    WHERE user_id BETWEEN $first_user AND $last_user
    GROUP BY user_id, item_id
),

-- What is the same in every row is added after the sort, which the outer SELECT keeps.
lists AS (
    SELECT
        chosen.user_id,
        chosen.final_rank::INTEGER AS rank,
        chosen.item_id,
        chosen.score,
        chosen.model,
        chosen.model_version,
        chosen.is_chosen,
        chosen.because,
        liked_items.n_users,
        own.last_at
    FROM chosen
    LEFT JOIN liked_items ON chosen.item_id = liked_items.item_id
    LEFT JOIN own ON chosen.user_id = own.user_id AND chosen.item_id = own.item_id
    WHERE chosen.final_rank <= $k
    ORDER BY chosen.user_id, chosen.final_rank
)

SELECT
    $release_id AS release_id,
    $ds AS ds,
    user_id,
    rank,
    item_id,
    score,
    model,
    model_version,
    CASE
        WHEN model = $published THEN 'model'
        WHEN is_chosen THEN 'fallback'
        ELSE 'cold fill'
    END AS source,
    {
        'kind': CASE
            WHEN last_at IS NOT NULL THEN 'return'
            WHEN model = 'popularity' THEN 'popularity'
            ELSE 'taste'
        END,
        'n_users': coalesce(n_users, 0),
        'last_at': last_at,
        'because': because
    } AS reasons,
    CASE
        WHEN $repurchase THEN ['in catalogue', 'in stock', 'repurchase allowed']
        ELSE ['in catalogue', 'in stock', 'not seen']
    END AS rule_trace,
    NULL::DOUBLE AS p_shown
FROM lists

-- grain: one shown impression, with the features of a model of exposure
-- reads: estimated.shown, estimated.shares, estimated.users
SELECT
    shown.impression_id,
    shown.request_id,
    shown.user_id,
    shown.item_id,
    shown.position,
    shown.policy,
    shown.p_logged,
    shown.fold,
    shares.share,
    users.activity,
    shown.hour,
    shown.policy_score,
    shown.ds
FROM estimated.shown
INNER JOIN estimated.shares ON shown.fold = shares.fold AND shown.item_id = shares.item_id
INNER JOIN estimated.users ON shown.user_id = users.user_id
ORDER BY shown.impression_id

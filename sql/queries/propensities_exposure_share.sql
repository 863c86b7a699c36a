-- grain: one shown impression
-- reads: estimated.shown, estimated.shares
-- note: the smoothed share of the requests of other users that showed the item, over the window
SELECT
    shown.impression_id,
    shown.request_id,
    shown.user_id,
    shown.item_id,
    shown.position,
    shown.policy,
    shown.p_logged,
    shares.share AS estimate,
    'exposure_share' AS estimator,
    shown.ds
FROM estimated.shown
INNER JOIN estimated.shares ON shown.fold = shares.fold AND shown.item_id = shares.item_id

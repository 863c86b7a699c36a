-- grain: one estimate of a stated policy of the night, at all positions
-- reads: train.policy_values
SELECT
    behaviour,
    policy,
    states,
    estimator,
    value AS estimate,
    lower AS low,
    upper AS high,
    n_slots,
    ess,
    verdict,
    sentence
FROM train.policy_values
WHERE ds = $ds AND slots = 'all positions' AND segment_kind = 'all'
ORDER BY behaviour, policy, list_position(['naive', 'ips', 'clipped_ips', 'snips', 'dr'], estimator)

-- grain: one check of the propensities of the night
-- reads: train.propensity_diagnostics
SELECT
    weight,
    measure,
    about,
    before,
    value AS found,
    verdict,
    sentence
FROM train.propensity_diagnostics
WHERE ds = $ds
ORDER BY
    weight,
    list_position(
        [
            'balance', 'mean weight', 'overlap', 'smallest weight', 'median weight',
            'largest weight', 'clipping', 'calibration'
        ],
        measure
    ),
    CASE WHEN about LIKE '%activity' THEN 2 ELSE 1 END,
    try_cast(regexp_extract(about, '[0-9]+') AS INTEGER),
    about

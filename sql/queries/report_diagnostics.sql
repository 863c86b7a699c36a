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
        ['balance', 'mean weight', 'overlap', 'largest weight', 'clipping', 'calibration'], measure
    ),
    try_cast(regexp_extract(about, '[0-9]+') AS INTEGER),
    about

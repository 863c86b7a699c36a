-- grain: one rule of the gate about the night's last release
-- reads: serve.verdicts, serve.publications
WITH release AS (
    SELECT release_id
    FROM serve.publications
    WHERE ds = $ds
    ORDER BY decided_at DESC, release_id DESC
    LIMIT 1
)

SELECT
    verdicts.rule,
    verdicts.observed AS found,
    verdicts.bound,
    verdicts.verdict,
    verdicts.sentence
FROM serve.verdicts AS verdicts
INNER JOIN release USING (release_id)
WHERE verdicts.ds = $ds
ORDER BY list_position(['hold', 'not judged', 'pass'], verdicts.verdict), verdicts.rule

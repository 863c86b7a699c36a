-- grain: one row, the decision that says what is served now, whatever the night
-- reads: serve.publications
SELECT
    release_id,
    ds,
    action,
    reason,
    who,
    decided_at,
    model,
    n_users,
    n_rows
FROM serve.publications
WHERE action IN ('publish', 'force', 'rollback')
ORDER BY decided_at DESC, release_id DESC
LIMIT 1

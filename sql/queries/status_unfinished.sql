-- grain: one run that has stages and no end: it runs now, or it was killed
-- reads: ops.stages, ops.nights
-- note: runs of hours between nights (tasks/hours.py) have no end to note
SELECT
    s.run_id,
    s.ds,
    arg_max(s.stage, s.started_at) AS stage,
    max(s.started_at) AS since
FROM ops.stages AS s
ANTI JOIN ops.nights AS n ON s.run_id = n.run_id
WHERE NOT starts_with(s.run_id, 'hour-')
GROUP BY s.run_id, s.ds
ORDER BY since DESC, s.run_id ASC

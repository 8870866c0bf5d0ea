-- Attempts that the mesh blocked in the last week, by who tried what.
SELECT
    source_namespace, source_workload, destination_host, destination_port, sum(attempts) AS attempts,
    arraySort(groupUniqArrayArray(blocked.proved_by)) AS proved_by, min(blocked.first_seen) AS first_seen,
    max(blocked.last_seen) AS last_seen
FROM report_blocked AS blocked
WHERE window_start >= now() - INTERVAL 7 DAY
GROUP BY source_namespace, source_workload, destination_host, destination_port
ORDER BY attempts DESC, destination_host

-- Calls of the last day whose host is not the one that the named cluster stands for.
SELECT source_namespace, source_workload, destination_host, destination_port, sum(row.mismatches) AS mismatches
FROM windows_1h AS row
WHERE window_start >= now() - INTERVAL 1 DAY AND row.mismatches > 0
GROUP BY source_namespace, source_workload, destination_host, destination_port
ORDER BY mismatches DESC, destination_host

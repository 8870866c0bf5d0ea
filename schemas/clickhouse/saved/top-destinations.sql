-- External destinations of the last day, the most called first.
SELECT destination_host, destination_port, sum(requests) AS requests, uniq(source_namespace, source_workload) AS workloads
FROM windows_1h
WHERE window_start >= now() - INTERVAL 1 DAY AND hop = 'sidecar' AND destination_scope IN ('external', 'unknown')
GROUP BY destination_host, destination_port
ORDER BY requests DESC, destination_host, destination_port
LIMIT 50

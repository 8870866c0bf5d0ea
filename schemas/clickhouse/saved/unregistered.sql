-- Passthrough traffic of the last week: hosts that no ServiceEntry covers.
SELECT destination_host, destination_port, sum(requests) AS requests, groupUniqArray(10)(source_workload) AS workloads
FROM windows_1d
WHERE window_start >= now() - INTERVAL 7 DAY AND label = 'passthrough' AND hop = 'sidecar' AND service_entry IS NULL
    AND destination_scope != 'mesh'
GROUP BY destination_host, destination_port
ORDER BY requests DESC, destination_host
LIMIT 100

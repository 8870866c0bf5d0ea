-- Which workloads wrote to which databases in the last week, and how much.
SELECT
    destination_kind, destination_host, destination_port, source_namespace, source_workload,
    formatReadableSize(sum(bytes_written)) AS written, formatReadableSize(sum(bytes_read)) AS read,
    sum(requests) AS connections
FROM report_databases
WHERE window_start >= now() - INTERVAL 7 DAY
GROUP BY destination_kind, destination_host, destination_port, source_namespace, source_workload
ORDER BY sum(bytes_written) DESC, destination_host

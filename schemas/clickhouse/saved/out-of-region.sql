-- Bytes that left each workload's home region in the last week, by region.
SELECT source_namespace, source_workload, home_regions, destination_region, sum(bytes_received) AS bytes_out, sum(requests) AS requests
FROM report_regions
WHERE window_start >= now() - INTERVAL 7 DAY AND place = 'out of region'
GROUP BY source_namespace, source_workload, home_regions, destination_region
ORDER BY bytes_out DESC, destination_region

-- Destinations of the last day by their share of errors, where there were at least 10 requests.
SELECT
    destination_host, destination_port, sum(requests) AS all_requests, sum(errors) AS all_errors,
    round(100 * all_errors / all_requests, 1) AS percent
FROM report_external
WHERE window_start >= now() - INTERVAL 1 DAY
GROUP BY destination_host, destination_port
HAVING all_requests >= 10 AND all_errors > 0
ORDER BY percent DESC, all_requests DESC, destination_host
LIMIT 50

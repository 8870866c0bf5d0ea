-- Requests per minute and label in the last hour.
SELECT window_start, label, sum(requests) AS requests
FROM windows_1m
WHERE window_start >= now() - INTERVAL 1 HOUR AND hop != 'gateway'
GROUP BY window_start, label
ORDER BY window_start, label

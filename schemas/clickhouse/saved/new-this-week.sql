-- Destinations that were first seen in the last week, and by whom.
SELECT first_seen, new_to, source_namespace, source_workload, destination_host, destination_port, labels, requests
FROM report_new
WHERE first_seen >= now() - INTERVAL 7 DAY
ORDER BY first_seen DESC, destination_host

-- Who ever called hosts that end in example.com, and since when: change the host.
SELECT source_namespace, source_workload, source_ip, destination_host, destination_port, requests, first_seen, last_seen
FROM destinations
WHERE destination_host LIKE '%example.com'
ORDER BY last_seen DESC, destination_host
LIMIT 100

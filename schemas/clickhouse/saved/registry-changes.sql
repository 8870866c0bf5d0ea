-- What changed in the registry in the last week: who may call what, since when.
SELECT valid_from, cluster, kind, namespace, name, if(removed, 'removed', 'declared') AS what
FROM registry
WHERE valid_from >= now() - INTERVAL 7 DAY
ORDER BY valid_from DESC, kind, namespace, name
LIMIT 100

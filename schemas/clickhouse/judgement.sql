-- Pieces of judged.sql, one per section: for what is judged the same rules as judge.judgement.combine, which tests
-- compare. A `row` has seen_at (when its source had its address), ips and registered (the mesh named the host) beside
-- its columns.
-- Names are judged last (judged_at): without them nothing is judged, also if addresses are.

-- Whose address a source without a name had.
-- section: pod_with
(SELECT groupUniqArray(cluster) FROM ${database}.raw_pods) AS pod_clusters

-- section: pod_columns
nullIf(if(row.seen_at < pod_to, pod_namespace, ''), '') AS source_ip_namespace,
nullIf(if(row.seen_at < pod_to, pod_workload, ''), '') AS source_ip_workload

-- section: pod_join
GLOBAL ASOF LEFT JOIN
(
    SELECT
        cluster AS pod_cluster, address AS pod_address, valid_from AS pod_from, valid_to AS pod_to,
        namespace AS pod_namespace, workload AS pod_workload
    FROM ${database}.raw_pods FINAL
) AS pod
ON pod_cluster = if(has(pod_clusters, ifNull(row.source_cluster, '')), ifNull(row.source_cluster, ''), '')
    AND pod_address = if(row.source_workload IS NULL, ifNull(row.source_ip, ''), '')
    AND row.seen_at >= pod_from

-- What the addresses tell, and then what is judged by.
-- section: address_with
${pod_with},
notEmpty(host_addresses) AS host_differs,
notEmpty(row.ips) OR host_is_address AS host_counts,
if(host_differs, arrayMap(ip -> indexOf(host_addresses, ip), row.ips), []) AS places,
arrayMap(at -> host_scopes[at], places) AS scopes,
multiIf(
    has(scopes, 'external'), 'external', has(scopes, 'mesh'), 'mesh', has(scopes, 'private'), 'private',
    host_differs OR NOT host_counts, '', host_scope
) AS ip_scope,
places[indexOf(scopes, ip_scope)] AS scope_at,
arrayMap(at -> host_regions[at], places) AS regions,
if(
    host_differs, arraySort(arrayDistinct(arrayFilter(region -> region != '', regions))),
    if(host_counts AND host_region != '', [toString(host_region)], [])
) AS ip_regions,
places[arrayFirstIndex(region -> region != '', regions)] AS region_at,
arrayMap(at -> host_geos[at], places) AS geos,
if(
    host_differs, arraySort(arrayDistinct(arrayFilter(geo -> geo != '', geos))),
    if(host_counts AND host_geo != '', [toString(host_geo)], [])
) AS ip_geos,
places[arrayFirstIndex(geo -> geo != '', geos)] AS geo_at

-- section: judged_by
multiIf(
    judged_at = 0, 0,
    judged_declared_scope IS NOT NULL, 1,
    judged_scope = 'mesh' AND row.registered, 2,
    ip_scope = 'external', 3,
    judged_scope = 'mesh', 2,
    ip_scope != '', 3,
    judged_scope IS NOT NULL, 2,
    0
) AS scope_by,
multiIf(
    judged_at = 0, 0,
    judged_declared_region IS NOT NULL, 1,
    length(ip_regions) > 1, 2,
    length(ip_regions) = 1, 3,
    judged_region IS NOT NULL, 4,
    length(ip_geos) > 1, 5,
    length(ip_geos) = 1, 6,
    0
) AS region_by

-- section: judged_with
${address_with},
${judged_by}

-- section: judgements
multiIf(scope_by = 1, judged_declared_scope, scope_by = 2, judged_scope, scope_by = 3, ip_scope, 'unknown')
    AS destination_scope,
multiIf(
    scope_by = 1, judged_declared_scope_confidence, scope_by = 2, judged_scope_confidence, scope_by = 3, 'high', 'low'
) AS destination_scope_confidence,
multiIf(
    scope_by = 1, judged_declared_scope_reason, scope_by = 2, judged_scope_reason,
    scope_by = 3, if(host_differs, host_scope_reasons[scope_at], host_scope_reason), judged_at = 0, 'not judged yet', 'neither name nor address tells'
) AS destination_scope_reason,
multiIf(
    region_by = 1, judged_declared_region, region_by = 3, ip_regions[1], region_by = 4, judged_region,
    region_by = 6, ip_geos[1], NULL
) AS destination_region,
multiIf(
    region_by = 1, judged_declared_region_confidence, region_by = 3, if(host_differs, host_region_confidences[region_at], host_region_confidence),
    region_by = 4, judged_region_confidence, region_by = 6, if(host_differs, host_geo_confidences[geo_at], host_geo_confidence), NULL
) AS destination_region_confidence,
multiIf(
    region_by = 2, concat('addresses in ', arrayStringConcat(ip_regions, ', ')),
    region_by = 3, if(host_differs, host_region_reasons[region_at], host_region_reason),
    region_by = 4, judged_region_reason,
    region_by = 5, concat('addresses in ', arrayStringConcat(ip_geos, ', ')),
    region_by = 6, if(host_differs, host_geo_reasons[geo_at], host_geo_reason),
    judged_declared_region_reason
) AS destination_region_reason,
judged_kind AS destination_kind,
judged_kind_confidence AS destination_kind_confidence,
judged_kind_reason AS destination_kind_reason,
judged_service_entry AS service_entry,
judged_service_entry_reason AS service_entry_reason

-- section: judged_columns
row.* EXCEPT (seen_at, ips, registered),
${pod_columns},
${judgements}

-- section: judged_joins
${pod_join}
GLOBAL ANY LEFT JOIN
(
    SELECT
        source_cluster AS host_cluster, destination_host AS host_name, is_address AS host_is_address,
        scope AS host_scope, scope_reason AS host_scope_reason, region AS host_region,
        region_confidence AS host_region_confidence, region_reason AS host_region_reason, geo AS host_geo,
        geo_confidence AS host_geo_confidence, geo_reason AS host_geo_reason, addresses AS host_addresses,
        scopes AS host_scopes, scope_reasons AS host_scope_reasons, regions AS host_regions,
        region_confidences AS host_region_confidences, region_reasons AS host_region_reasons, geos AS host_geos,
        geo_confidences AS host_geo_confidences, geo_reasons AS host_geo_reasons
    FROM ${database}.raw_judged_hosts FINAL
) AS host
ON host_cluster = ifNull(row.source_cluster, '') AND host_name = ifNull(row.destination_host, '')
GLOBAL ANY LEFT JOIN
(
    SELECT
        source_cluster AS judged_cluster, source_namespace AS judged_namespace, destination_host AS judged_host,
        destination_port AS judged_port, service_entry AS judged_service_entry,
        service_entry_reason AS judged_service_entry_reason, declared_scope AS judged_declared_scope,
        declared_scope_confidence AS judged_declared_scope_confidence,
        declared_scope_reason AS judged_declared_scope_reason, scope AS judged_scope,
        scope_confidence AS judged_scope_confidence, scope_reason AS judged_scope_reason,
        declared_region AS judged_declared_region, declared_region_confidence AS judged_declared_region_confidence,
        declared_region_reason AS judged_declared_region_reason, region AS judged_region,
        region_confidence AS judged_region_confidence, region_reason AS judged_region_reason,
        kind AS judged_kind, kind_confidence AS judged_kind_confidence, kind_reason AS judged_kind_reason,
        toUnixTimestamp64Milli(judged_at) AS judged_at
    FROM ${database}.raw_judgements FINAL
) AS judged
ON judged_cluster = ifNull(row.source_cluster, '')
    AND judged_namespace = coalesce(row.source_namespace, if(row.seen_at < pod_to, pod_namespace, ''))
    AND judged_host = ifNull(row.destination_host, '')
    AND judged_port = ifNull(row.destination_port, 0)

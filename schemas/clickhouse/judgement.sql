-- Pieces of judged.sql, one per section: the same rules as judge.judgement.combine, which tests compare. A `row`
-- has seen_at (when its source had its address), ips and registered (the mesh named the host) beside its columns.

-- section: judged_with
(
    SELECT
    (
        groupArray(concat(source_cluster, ' ', address)),
        groupArray(ifNull(scope, '')), groupArray(ifNull(scope_confidence, '')), groupArray(ifNull(scope_reason, '')),
        groupArray(ifNull(region, '')), groupArray(ifNull(region_confidence, '')),
        groupArray(ifNull(region_reason, '')),
        groupArray(ifNull(geo, '')), groupArray(ifNull(geo_confidence, '')), groupArray(ifNull(geo_reason, ''))
    )
    FROM ${database}.raw_judged_addresses FINAL
) AS known,
(SELECT groupUniqArray(cluster) FROM ${database}.raw_pods) AS pod_clusters,
arrayFilter(
    at -> at > 0,
    arrayMap(
        ip -> transform(
            concat(ifNull(row.source_cluster, ''), ' ', ip), known.1, range(1, toUInt64(length(known.1) + 1)), 0
        ),
        if(empty(row.ips), [ifNull(row.destination_host, '')], row.ips)
    )
) AS places,
arrayFirst(at -> known.2[at] = 'external', places) AS external_at,
arrayFirst(at -> known.2[at] = 'mesh', places) AS mesh_at,
arrayFirst(at -> known.2[at] = 'private', places) AS private_at,
multiIf(
    judged_declared_scope IS NOT NULL, 1,
    judged_scope = 'mesh' AND row.registered, 2,
    external_at > 0, 3,
    judged_scope = 'mesh', 2,
    mesh_at > 0, 4,
    private_at > 0, 5,
    judged_scope IS NOT NULL, 2,
    0
) AS scope_by,
multiIf(scope_by = 3, external_at, scope_by = 4, mesh_at, private_at) AS scope_at,
arraySort(arrayDistinct(arrayFilter(region -> region != '', arrayMap(at -> known.5[at], places)))) AS regions,
arraySort(arrayDistinct(arrayFilter(geo -> geo != '', arrayMap(at -> known.8[at], places)))) AS geos,
arrayFirst(at -> known.5[at] != '', places) AS region_at,
arrayFirst(at -> known.8[at] != '', places) AS geo_at,
multiIf(
    judged_declared_region IS NOT NULL, 1,
    length(regions) > 1, 2,
    length(regions) = 1, 3,
    judged_region IS NOT NULL, 4,
    length(geos) > 1, 5,
    length(geos) = 1, 6,
    0
) AS region_by

-- section: judged_columns
nullIf(if(row.seen_at < pod_to, pod_namespace, ''), '') AS source_ip_namespace,
nullIf(if(row.seen_at < pod_to, pod_workload, ''), '') AS source_ip_workload,
multiIf(
    scope_by = 1, judged_declared_scope, scope_by = 2, judged_scope, scope_by = 3, 'external', scope_by = 4, 'mesh',
    scope_by = 5, 'private', 'unknown'
) AS destination_scope,
multiIf(
    scope_by = 1, judged_declared_scope_confidence, scope_by = 2, judged_scope_confidence, scope_by = 0, 'low',
    known.3[scope_at]
) AS destination_scope_confidence,
multiIf(
    scope_by = 1, judged_declared_scope_reason, scope_by = 2, judged_scope_reason, scope_by != 0, known.4[scope_at],
    judged_at = 0, 'not judged yet', 'neither name nor address tells'
) AS destination_scope_reason,
multiIf(
    region_by = 1, judged_declared_region, region_by = 3, regions[1], region_by = 4, judged_region,
    region_by = 6, geos[1], NULL
) AS destination_region,
multiIf(
    region_by = 1, judged_declared_region_confidence, region_by = 3, known.6[region_at],
    region_by = 4, judged_region_confidence, region_by = 6, known.9[geo_at], NULL
) AS destination_region_confidence,
multiIf(
    region_by = 2, concat('addresses in ', arrayStringConcat(regions, ', ')), region_by = 3, known.7[region_at],
    region_by = 4, judged_region_reason, region_by = 5, concat('addresses in ', arrayStringConcat(geos, ', ')),
    region_by = 6, known.10[geo_at], judged_declared_region_reason
) AS destination_region_reason,
judged_kind AS destination_kind,
judged_kind_confidence AS destination_kind_confidence,
judged_kind_reason AS destination_kind_reason,
judged_service_entry AS service_entry,
judged_service_entry_reason AS service_entry_reason

-- section: judged_joins
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

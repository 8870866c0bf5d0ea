package bench;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import java.time.Instant;

/** An enriched record, all that Egresslens stores of one: a POJO with public fields, for which Flink has a serializer. */
public class Event {
    /** The columns of `write`, in its order. */
    static final String COLUMNS = "event_time, start_time, duration_ms, label, label_evidence, confidence, "
        + "upstream_cluster, cluster_port, cluster_subset, source_cluster, source_namespace, source_workload, source_pod, "
        + "source_ip, source_region, source_zone, destination_host, destination_host_source, destination_port, "
        + "destination_ip, mismatch, hop, protocol, method, path, response_code, response_flags, response_code_details, "
        + "connection_termination_details, upstream_transport_failure_reason, bytes_sent, bytes_received, "
        + "upstream_service_time, x_forwarded_for, user_agent, request_id, route_name, requested_server_name, authority, "
        + "upstream_host, upstream_local_address, downstream_local_address, downstream_remote_address, format, damage, "
        + "rules_version, stream_epoch, topic, partition, offset, seq, kafka_timestamp";

    public String event_time;
    public String start_time;
    public long duration_ms;
    public String label;
    public String label_evidence;
    public String confidence = "high";
    public String upstream_cluster;
    public Integer cluster_port;
    public String cluster_subset;
    public String source_cluster;
    public String source_namespace;
    public String source_workload;
    public String source_pod;
    public String source_ip;
    public String source_region;
    public String source_zone;
    public String destination_host;
    public String destination_host_source;
    public int destination_port;
    public String destination_ip;
    public boolean mismatch;
    public String hop = "sidecar";
    public String protocol;
    public String method;
    public String path;
    public int response_code;
    public String[] response_flags;
    public String response_code_details;
    public String connection_termination_details;
    public String upstream_transport_failure_reason;
    public long bytes_sent;
    public long bytes_received;
    public Long upstream_service_time;
    public String x_forwarded_for;
    public String user_agent;
    public String request_id;
    public String route_name;
    public String requested_server_name;
    public String authority;
    public String upstream_host;
    public String upstream_local_address;
    public String downstream_local_address;
    public String downstream_remote_address;
    public String format = "istio_json";
    public String damage;
    public int rules_version = 1;
    public String stream_epoch = "epoch";
    public String topic;
    public int partition;
    public long offset;
    public int seq;
    public String kafka_timestamp;
    /** Milliseconds since 1970, as `event_time`, `start_time` and `kafka_timestamp`. */
    public long ended;
    public long started;
    public long sent;

    /** What Jackson binds of an access-log record. */
    @JsonIgnoreProperties(ignoreUnknown = true)
    public static class Line {
        @JsonProperty public String start_time;
        @JsonProperty public String upstream_cluster;
        @JsonProperty public String route_name;
        @JsonProperty public String authority;
        @JsonProperty public String requested_server_name;
        @JsonProperty public String upstream_local_address;
        @JsonProperty public String downstream_local_address;
        @JsonProperty public String downstream_remote_address;
        @JsonProperty public String protocol;
        @JsonProperty public String method;
        @JsonProperty public String path;
        @JsonProperty public int response_code;
        @JsonProperty public String response_flags;
        @JsonProperty public String response_code_details;
        @JsonProperty public String connection_termination_details;
        @JsonProperty public String upstream_transport_failure_reason;
        @JsonProperty public long bytes_sent;
        @JsonProperty public long bytes_received;
        @JsonProperty public long duration;
        @JsonProperty public String upstream_service_time;
        @JsonProperty public String x_forwarded_for;
        @JsonProperty public String user_agent;
        @JsonProperty public String request_id;
        @JsonProperty public String upstream_host;
    }

    static Event of(Line line, String topic, int partition, long offset, long sent) {
        Event event = new Event();
        event.started = Instant.parse(line.start_time).toEpochMilli();
        event.ended = event.started + line.duration;
        event.sent = sent;
        event.duration_ms = line.duration;
        event.upstream_cluster = text(line.upstream_cluster);
        event.route_name = text(line.route_name);
        event.authority = text(line.authority);
        event.requested_server_name = text(line.requested_server_name);
        event.upstream_local_address = text(line.upstream_local_address);
        event.downstream_local_address = text(line.downstream_local_address);
        event.downstream_remote_address = text(line.downstream_remote_address);
        int colon = line.downstream_local_address.lastIndexOf(':');
        event.destination_ip = line.downstream_local_address.substring(0, colon);
        event.destination_port = Integer.parseInt(line.downstream_local_address.substring(colon + 1));
        event.source_ip = line.downstream_remote_address.substring(0, line.downstream_remote_address.lastIndexOf(':'));
        event.host();
        event.protocol = text(line.protocol);
        event.method = text(line.method);
        event.path = text(line.path);
        int query = event.path == null ? -1 : event.path.indexOf('?');
        event.path = query < 0 ? event.path : event.path.substring(0, query);
        event.response_code = line.response_code;
        String flags = text(line.response_flags);
        event.response_flags = flags == null ? new String[0] : flags.split(",");
        event.response_code_details = text(line.response_code_details);
        event.connection_termination_details = text(line.connection_termination_details);
        event.upstream_transport_failure_reason = text(line.upstream_transport_failure_reason);
        event.bytes_sent = line.bytes_sent;
        event.bytes_received = line.bytes_received;
        String service = text(line.upstream_service_time);
        event.upstream_service_time = service == null ? null : Long.valueOf(service);
        event.x_forwarded_for = text(line.x_forwarded_for);
        event.user_agent = text(line.user_agent);
        event.request_id = text(line.request_id);
        event.upstream_host = text(line.upstream_host);
        event.topic = topic;
        event.partition = partition;
        event.offset = offset;
        return event;
    }

    /** The registry's host, else the authority, else the server name, else the address. */
    private void host() {
        String[] parts = upstream_cluster == null ? new String[0] : upstream_cluster.split("\\|", -1);
        if (parts.length == 4) {
            cluster_port = Integer.valueOf(parts[1]);
            cluster_subset = text(parts[2]);
            destination_host = parts[3];
            destination_host_source = "registry";
            mismatch = authority != null && !authority.equals(destination_host);
        } else if (authority != null) {
            destination_host = authority;
            destination_host_source = "authority";
        } else if (requested_server_name != null) {
            destination_host = requested_server_name;
            destination_host_source = "sni";
        } else {
            destination_host = destination_ip;
            destination_host_source = "address";
        }
    }

    /** Fills in the label and the times as people read them. */
    Event labelled() {
        label_evidence = "cluster";
        if ("PassthroughCluster".equals(upstream_cluster)) {
            label = "passthrough";
        } else if ("BlackHoleCluster".equals(upstream_cluster)) {
            label = "blackhole";
        } else if ("block_all".equals(route_name)) {
            label = "blackhole";
            label_evidence = "route";
        } else {
            int bar = upstream_cluster == null ? -1 : upstream_cluster.indexOf('|');
            label = bar < 0 ? "unknown" : upstream_cluster.substring(0, bar);
        }
        event_time = Instant.ofEpochMilli(ended).toString();
        start_time = Instant.ofEpochMilli(started).toString();
        kafka_timestamp = Instant.ofEpochMilli(sent).toString();
        return this;
    }

    boolean stored() {
        return label.equals("outbound") || label.equals("passthrough") || label.equals("blackhole");
    }

    static String text(String value) {
        return value == null || value.equals("-") || value.isEmpty() ? null : value;
    }

    void write(RowBinary row) {
        row.int64(ended).some(started).some(duration_ms).string(label).maybe(label_evidence).maybe(confidence)
            .maybe(upstream_cluster).maybe(cluster_port).maybe(cluster_subset).maybe(source_cluster).maybe(source_namespace)
            .maybe(source_workload).maybe(source_pod).maybe(source_ip).maybe(source_region).maybe(source_zone)
            .maybe(destination_host).maybe(destination_host_source).some(destination_port).maybe(destination_ip)
            .some(mismatch).maybe(hop).maybe(protocol).maybe(method).maybe(path).some(response_code).strings(response_flags)
            .maybe(response_code_details).maybe(connection_termination_details).maybe(upstream_transport_failure_reason)
            .some(bytes_sent).some(bytes_received).maybe(upstream_service_time).maybe(x_forwarded_for).maybe(user_agent)
            .maybe(request_id).maybe(route_name).maybe(requested_server_name).maybe(authority).maybe(upstream_host)
            .maybe(upstream_local_address).maybe(downstream_local_address).maybe(downstream_remote_address).maybe(format)
            .maybe(damage).int32(rules_version).string(stream_epoch).string(topic).int32(partition).int64(offset).int32(seq)
            .int64(sent);
    }
}

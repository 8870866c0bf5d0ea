package bench;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import java.time.Instant;

/** An enriched record: a POJO with public fields, for which Flink has a serializer of its own. */
public class Event {
    public String event_time;
    public String label;
    public String upstream_cluster;
    public String source_ip;
    public String destination_host;
    public int destination_port;
    public String protocol;
    public String method;
    public String path;
    public int response_code;
    public String response_flags;
    public long bytes_sent;
    public long bytes_received;
    public long duration_ms;
    public String user_agent;
    public String request_id;
    public String route_name;
    public String upstream_host;
    public int partition;
    public long offset;
    /** Milliseconds since 1970. */
    public long ended;

    /** What Jackson binds of an access-log record. */
    @JsonIgnoreProperties(ignoreUnknown = true)
    public static class Line {
        @JsonProperty public String start_time;
        @JsonProperty public String upstream_cluster;
        @JsonProperty public String route_name;
        @JsonProperty public String authority;
        @JsonProperty public String requested_server_name;
        @JsonProperty public String downstream_local_address;
        @JsonProperty public String downstream_remote_address;
        @JsonProperty public String protocol;
        @JsonProperty public String method;
        @JsonProperty public String path;
        @JsonProperty public int response_code;
        @JsonProperty public String response_flags;
        @JsonProperty public long bytes_sent;
        @JsonProperty public long bytes_received;
        @JsonProperty public long duration;
        @JsonProperty public String user_agent;
        @JsonProperty public String request_id;
        @JsonProperty public String upstream_host;
    }

    static Event of(Line line, int partition, long offset) {
        Event event = new Event();
        event.ended = Instant.parse(line.start_time).toEpochMilli() + line.duration;
        event.upstream_cluster = text(line.upstream_cluster);
        event.route_name = text(line.route_name);
        String local = line.downstream_local_address;
        String remote = line.downstream_remote_address;
        int colon = local.lastIndexOf(':');
        event.destination_host = host(event.upstream_cluster, line, local.substring(0, colon));
        event.destination_port = Integer.parseInt(local.substring(colon + 1));
        event.source_ip = remote.substring(0, remote.lastIndexOf(':'));
        event.protocol = text(line.protocol);
        event.method = text(line.method);
        String path = text(line.path);
        int query = path.indexOf('?');
        event.path = query < 0 ? path : path.substring(0, query);
        event.response_code = line.response_code;
        event.response_flags = text(line.response_flags);
        event.bytes_sent = line.bytes_sent;
        event.bytes_received = line.bytes_received;
        event.duration_ms = line.duration;
        event.user_agent = text(line.user_agent);
        event.request_id = text(line.request_id);
        event.upstream_host = text(line.upstream_host);
        event.partition = partition;
        event.offset = offset;
        return event;
    }

    private static String host(String cluster, Line line, String address) {
        int bar = cluster.lastIndexOf('|');
        if (bar >= 0) {
            return cluster.substring(bar + 1);
        }
        String host = text(line.authority);
        if (host.isEmpty()) {
            host = text(line.requested_server_name);
        }
        return host.isEmpty() ? address : host;
    }

    /** Fills in the label and the time as people read it. */
    Event labelled() {
        label = label(upstream_cluster, route_name);
        event_time = Instant.ofEpochMilli(ended).toString();
        return this;
    }

    boolean stored() {
        return label.equals("outbound") || label.equals("passthrough") || label.equals("blackhole");
    }

    static String text(String value) {
        return value == null || value.equals("-") ? "" : value;
    }

    static String label(String cluster, String route) {
        if (cluster.equals("PassthroughCluster")) {
            return "passthrough";
        }
        if (cluster.equals("BlackHoleCluster") || route.equals("block_all")) {
            return "blackhole";
        }
        int bar = cluster.indexOf('|');
        return bar < 0 ? "unknown" : cluster.substring(0, bar);
    }

    void write(RowBinary row) {
        row.int64(ended).string(label).string(upstream_cluster).string(source_ip).string(destination_host)
            .int16(destination_port).string(protocol).string(method).string(path).int16(response_code)
            .string(response_flags).int64(bytes_sent).int64(bytes_received).int64(duration_ms).string(user_agent)
            .string(request_id).string(route_name).string(upstream_host).int32(partition).int64(offset);
    }
}

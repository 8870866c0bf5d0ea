package bench;

import java.util.Arrays;
import java.util.stream.Stream;
import org.apache.flink.api.java.tuple.Tuple9;

/** What the windows need of an event, and, summed up, a window's row: so little goes over the network. */
public class Flow {
    /** The columns of `write`, in its order. */
    static final String COLUMNS = "window_start, stream_epoch, topic, partition, source_ip, label, destination_host, "
        + "destination_host_source, destination_port, protocol, hop, response_code, requests, mismatches, bytes_sent, "
        + "bytes_received, duration_ms_sum, duration_ms_max, duration_buckets, destination_ips, first_event, last_event, "
        + "rules_version, last_offset";
    /** Istio's latency buckets, milliseconds; one more holds the rest. */
    private static final double[] BOUNDS = {0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000,
        60_000, 300_000, 600_000, 1_800_000, 3_600_000};
    private static final int IPS = 16;

    public long minute;
    public String stream_epoch;
    public String topic;
    public String source_ip;
    public String label;
    public String destination_host;
    public String destination_host_source;
    public int destination_port;
    public String protocol;
    public String hop;
    public int response_code;
    public int partition;
    public long requests;
    public long mismatches;
    public long bytes_sent;
    public long bytes_received;
    public long duration_ms_sum;
    public long duration_ms_max;
    public long[] duration_buckets;
    public String[] destination_ips;
    public long first_event;
    public long last_event;
    public int rules_version;
    public long last_offset;

    static Flow of(Event event) {
        Flow flow = new Flow();
        flow.minute = event.ended / 60_000 * 60;
        flow.stream_epoch = event.stream_epoch;
        flow.topic = event.topic;
        flow.source_ip = event.source_ip;
        flow.label = event.label;
        flow.destination_host = event.destination_host;
        flow.destination_host_source = event.destination_host_source;
        flow.destination_port = event.destination_port;
        flow.protocol = event.protocol;
        flow.hop = event.hop;
        flow.response_code = event.response_code;
        flow.partition = event.partition;
        flow.requests = 1;
        flow.mismatches = event.mismatch ? 1 : 0;
        flow.bytes_sent = event.bytes_sent;
        flow.bytes_received = event.bytes_received;
        flow.duration_ms_sum = event.duration_ms;
        flow.duration_ms_max = event.duration_ms;
        flow.duration_buckets = new long[BOUNDS.length + 1];
        int bucket = Arrays.binarySearch(BOUNDS, event.duration_ms);
        flow.duration_buckets[bucket < 0 ? -bucket - 1 : bucket] = 1;
        flow.destination_ips = new String[] {event.destination_ip};
        flow.first_event = event.ended;
        flow.last_event = event.ended;
        flow.rules_version = event.rules_version;
        flow.last_offset = event.offset;
        return flow;
    }

    Tuple9<String, String, String, String, Integer, String, String, Integer, Integer> key() {
        return Tuple9.of(source_ip, label, destination_host, destination_host_source, destination_port,
            protocol == null ? "" : protocol, hop, response_code, partition);
    }

    /** Adds another flow of the same key and window; the sum is a row of its own, as reduce wants it. */
    Flow plus(Flow other) {
        Flow sum = new Flow();
        sum.minute = minute;
        sum.stream_epoch = stream_epoch;
        sum.topic = topic;
        sum.source_ip = source_ip;
        sum.label = label;
        sum.destination_host = destination_host;
        sum.destination_host_source = destination_host_source;
        sum.destination_port = destination_port;
        sum.protocol = protocol;
        sum.hop = hop;
        sum.response_code = response_code;
        sum.partition = partition;
        sum.requests = requests + other.requests;
        sum.mismatches = mismatches + other.mismatches;
        sum.bytes_sent = bytes_sent + other.bytes_sent;
        sum.bytes_received = bytes_received + other.bytes_received;
        sum.duration_ms_sum = duration_ms_sum + other.duration_ms_sum;
        sum.duration_ms_max = Math.max(duration_ms_max, other.duration_ms_max);
        sum.duration_buckets = duration_buckets.clone();
        for (int bucket = 0; bucket < sum.duration_buckets.length; bucket++) {
            sum.duration_buckets[bucket] += other.duration_buckets[bucket];
        }
        sum.destination_ips = Arrays.equals(destination_ips, other.destination_ips) ? destination_ips
            : Stream.of(destination_ips, other.destination_ips).flatMap(Arrays::stream).distinct().limit(IPS)
                .toArray(String[]::new);
        sum.first_event = Math.min(first_event, other.first_event);
        sum.last_event = Math.max(last_event, other.last_event);
        sum.rules_version = rules_version;
        sum.last_offset = Math.max(last_offset, other.last_offset);
        return sum;
    }

    void write(RowBinary row) {
        row.int32((int) minute).string(stream_epoch).string(topic).int32(partition).maybe(source_ip).string(label)
            .maybe(destination_host).maybe(destination_host_source).some(destination_port).maybe(protocol).maybe(hop)
            .some(response_code).int64(requests).int64(mismatches).int64(bytes_sent).int64(bytes_received)
            .int64(duration_ms_sum).int64(duration_ms_max).numbers(duration_buckets).strings(destination_ips)
            .int64(first_event).int64(last_event).int32(rules_version).int64(last_offset);
    }
}

package bench;

import org.apache.flink.api.java.tuple.Tuple7;

/** What the windows need of an event, and, summed up, a window's row: so little goes over the network. */
public class Flow {
    public long minute;
    public String source_ip;
    public String label;
    public String destination_host;
    public int destination_port;
    public String protocol;
    public int response_code;
    public int partition;
    public long requests;
    public long bytes_sent;
    public long bytes_received;
    public long duration_ms_sum;
    public long duration_ms_max;
    public long last_offset;

    static Flow of(Event event) {
        Flow flow = new Flow();
        flow.minute = event.ended / 60_000 * 60;
        flow.source_ip = event.source_ip;
        flow.label = event.label;
        flow.destination_host = event.destination_host;
        flow.destination_port = event.destination_port;
        flow.protocol = event.protocol;
        flow.response_code = event.response_code;
        flow.partition = event.partition;
        flow.requests = 1;
        flow.bytes_sent = event.bytes_sent;
        flow.bytes_received = event.bytes_received;
        flow.duration_ms_sum = event.duration_ms;
        flow.duration_ms_max = event.duration_ms;
        flow.last_offset = event.offset;
        return flow;
    }

    Tuple7<String, String, String, Integer, String, Integer, Integer> key() {
        return Tuple7.of(source_ip, label, destination_host, destination_port, protocol, response_code, partition);
    }

    /** Adds another flow of the same key and window; the sum is a row of its own, as reduce wants it. */
    Flow plus(Flow other) {
        Flow sum = new Flow();
        sum.minute = minute;
        sum.source_ip = source_ip;
        sum.label = label;
        sum.destination_host = destination_host;
        sum.destination_port = destination_port;
        sum.protocol = protocol;
        sum.response_code = response_code;
        sum.partition = partition;
        sum.requests = requests + other.requests;
        sum.bytes_sent = bytes_sent + other.bytes_sent;
        sum.bytes_received = bytes_received + other.bytes_received;
        sum.duration_ms_sum = duration_ms_sum + other.duration_ms_sum;
        sum.duration_ms_max = Math.max(duration_ms_max, other.duration_ms_max);
        sum.last_offset = Math.max(last_offset, other.last_offset);
        return sum;
    }

    void write(RowBinary row) {
        row.int32((int) minute).string(source_ip).string(label).string(destination_host).int16(destination_port)
            .string(protocol).int16(response_code).int32(partition).int64(requests).int64(bytes_sent)
            .int64(bytes_received).int64(duration_ms_sum).int64(duration_ms_max).int64(last_offset);
    }
}

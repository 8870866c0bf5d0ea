package bench;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;

/** Kafka Streams: parse and label with Jackson, 1-minute windows in a map of each task. No sink, no state store. */
public final class Job {
    record Key(long minute, String source, String label, String host, int port, String protocol, int code, int partition) {}

    static final OperatingSystemMXBean OS = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    static final ObjectMapper JSON = new ObjectMapper();
    static final AtomicLong READ = new AtomicLong();
    static final List<Map<Key, long[]>> WINDOWS = new java.util.concurrent.CopyOnWriteArrayList<>();
    static volatile long started;
    static volatile long cpu;

    static final class Work extends ContextualProcessor<byte[], byte[], Void, Void> {
        private final long[] limits;
        private final long total;
        private final Map<Key, long[]> windows = new HashMap<>();

        Work(long[] limits, long total) {
            this.limits = limits;
            this.total = total;
            WINDOWS.add(windows);
        }

        @Override
        public void process(Record<byte[], byte[]> message) {
            var place = context().recordMetadata().orElseThrow();
            if (place.offset() >= limits[place.partition()]) {
                return;
            }
            if (READ.get() == 0) {
                started = System.nanoTime();
                cpu = OS.getProcessCpuTime();
            }
            try {
                apply(JSON.readTree(message.value()), place.partition(), place.offset());
            } catch (java.io.IOException error) {
                throw new java.io.UncheckedIOException(error);
            }
            if (READ.incrementAndGet() == total) {
                report();
            }
        }

        private void apply(JsonNode record, int partition, long offset) {
            String cluster = text(record, "upstream_cluster");
            String label = label(cluster, text(record, "route_name"));
            if (!label.equals("outbound") && !label.equals("passthrough") && !label.equals("blackhole")) {
                return;
            }
            String local = text(record, "downstream_local_address");
            String remote = text(record, "downstream_remote_address");
            int colon = local.lastIndexOf(':');
            String[] parts = cluster.split("\\|", -1);
            String host = parts.length == 4 ? parts[3] : text(record, "authority");
            if (host.isEmpty()) {
                host = text(record, "requested_server_name");
            }
            if (host.isEmpty()) {
                host = local.substring(0, colon);
            }
            long duration = record.get("duration").asLong();
            long ended = Instant.parse(text(record, "start_time")).toEpochMilli() + duration;
            Key key = new Key(ended / 60_000, remote.substring(0, remote.lastIndexOf(':')), label, host,
                Integer.parseInt(local.substring(colon + 1)), text(record, "protocol"),
                record.get("response_code").asInt(), partition);
            long[] row = windows.computeIfAbsent(key, ignored -> new long[6]);
            row[0]++;
            row[1] += record.get("bytes_sent").asLong();
            row[2] += record.get("bytes_received").asLong();
            row[3] += duration;
            row[4] = Math.max(row[4], duration);
            row[5] = offset;
        }
    }

    static String text(JsonNode record, String name) {
        JsonNode value = record.get(name);
        return value == null || value.isNull() || value.asText().equals("-") ? "" : value.asText();
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

    static void report() {
        double seconds = (System.nanoTime() - started) / 1e9;
        double spent = (OS.getProcessCpuTime() - cpu) / 1e9;
        Map<String, Long> counts = new ConcurrentHashMap<>();
        WINDOWS.forEach(windows -> windows.forEach((key, row) -> counts.merge(key.label(), row[0], Long::sum)));
        StringBuilder said = new StringBuilder();
        counts.forEach((label, count) -> said.append(said.isEmpty() ? "" : ",").append('"' + label + "\":" + count));
        System.out.printf(java.util.Locale.ROOT, "{\"seconds\":%f,\"cpu_s\":%f,\"counts\":{%s}}%n", seconds, spent, said);
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    public static void main(String[] arguments) throws Exception {
        JsonNode orders = JSON.readTree(arguments[0]);
        long[] limits = new long[orders.get("limits").size()];
        long total = 0;
        for (int i = 0; i < limits.length; i++) {
            limits[i] = orders.get("limits").get(i).asLong();
            total += limits[i];
        }
        long all = total;
        Properties properties = new Properties();
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, orders.get("group").asText());
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, orders.get("brokers").asText());
        properties.put(StreamsConfig.STATE_DIR_CONFIG, orders.get("folder").asText());
        properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        properties.put("auto.offset.reset", "earliest");
        properties.put("max.poll.records", 5_000);
        properties.put("fetch.min.bytes", 100_000);
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(orders.get("topic").asText(), Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
            .process(() -> new Work(limits, all));
        new KafkaStreams(builder.build(), properties).start();
    }
}

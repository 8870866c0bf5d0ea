package bench;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.stream.IntStream;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Kafka Streams: parse, label, 1-minute windows in a window store with its changelog, enriched topic. No ClickHouse.
 *
 * <p>A source's records are in one partition already, so the windows need no repartition topic (groupBy would make one).
 */
public final class Streams {
    private static final String STORE = "windows";
    private static final int THREADS = 2;
    private static final CountDownLatch DONE = new CountDownLatch(1);

    private Streams() {}

    /** One record: parse, label, add to its window, pass on. */
    static final class Work extends ContextualProcessor<byte[], byte[], byte[], byte[]> {
        private final long[] limits;
        private final AtomicLongArray next;
        private WindowStore<String, byte[]> windows;

        Work(long[] limits, AtomicLongArray next) {
            this.limits = limits;
            this.next = next;
        }

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            super.init(context);
            windows = context.getStateStore(STORE);
        }

        @Override
        public void process(Record<byte[], byte[]> message) {
            var place = context().recordMetadata().orElseThrow();
            if (place.offset() >= limits[place.partition()]) {
                return;
            }
            Meter.record();
            try {
                Event.Line line = Json.LINES.readValue(message.value());
                Event event = Event.of(line, place.topic(), place.partition(), place.offset(), message.timestamp()).labelled();
                if (event.stored()) {
                    add(event);
                    context().forward(new Record<>(event.source_ip.getBytes(), Json.EVENTS.writeValueAsBytes(event), event.ended));
                }
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            next.set(place.partition(), place.offset() + 1);
            if (place.offset() + 1 == limits[place.partition()] && all()) {
                DONE.countDown();
            }
        }

        private boolean all() {
            return IntStream.range(0, limits.length).allMatch(partition -> next.get(partition) >= limits[partition]);
        }

        private void add(Event event) {
            long minute = event.ended / 60_000 * 60_000;
            String key = String.join("|", event.label, event.source_ip, event.destination_host,
                Integer.toString(event.destination_port), event.protocol, Integer.toString(event.response_code));
            byte[] before = windows.fetch(key, minute);
            ByteBuffer was = before == null ? ByteBuffer.allocate(48).putLong(40, -1) : ByteBuffer.wrap(before);
            if (was.getLong(40) >= event.offset) {
                // Delivered again: while the threads share out the partitions a task may move and its records come twice.
                return;
            }
            windows.put(key, ByteBuffer.allocate(48).putLong(was.getLong() + 1).putLong(was.getLong() + event.bytes_sent)
                .putLong(was.getLong() + event.bytes_received).putLong(was.getLong() + event.duration_ms)
                .putLong(Math.max(was.getLong(), event.duration_ms)).putLong(event.offset).array(), minute);
        }
    }

    public static void main(String[] arguments) throws Exception {
        JsonNode orders = Json.MAPPER.readTree(arguments[0]);
        long[] limits = Json.MAPPER.convertValue(orders.get("limits"), long[].class);
        AtomicLongArray next = new AtomicLongArray(limits.length);
        StreamsBuilder builder = new StreamsBuilder();
        builder.addStateStore(Stores.windowStoreBuilder(
            Stores.inMemoryWindowStore(STORE, Duration.ofHours(24), Duration.ofMinutes(1), false),
            Serdes.String(), Serdes.ByteArray()).withCachingEnabled());
        builder.stream(orders.get("topic").asText(), Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
            .process(() -> new Work(limits, next), STORE)
            .to(orders.get("output").asText(), Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
        KafkaStreams streams = new KafkaStreams(builder.build(), properties(orders));
        streams.start();
        DONE.await();
        Map<String, Long> counts = counts(streams);
        // Commits: caches, changelog and enriched topic are written and acknowledged.
        streams.close();
        Meter.report(counts);
    }

    private static Map<String, Long> counts(KafkaStreams streams) {
        Map<String, Long> counts = new HashMap<>();
        var store = streams.store(StoreQueryParameters.fromNameAndType(STORE, QueryableStoreTypes.<String, byte[]>windowStore()));
        try (var all = store.all()) {
            all.forEachRemaining(row -> counts.merge(row.key.key().substring(0, row.key.key().indexOf('|')),
                ByteBuffer.wrap(row.value).getLong(), Long::sum));
        }
        return counts;
    }

    private static Properties properties(JsonNode orders) {
        Properties properties = new Properties();
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, orders.get("group").asText());
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, orders.get("brokers").asText());
        properties.put(StreamsConfig.STATE_DIR_CONFIG, orders.get("folder").asText());
        properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, THREADS);
        properties.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64 << 20);
        properties.put("auto.offset.reset", "earliest");
        properties.put("max.poll.records", 5_000);
        properties.put("fetch.min.bytes", 100_000);
        properties.put("compression.type", "zstd");
        properties.put("linger.ms", 50);
        properties.put("batch.size", 500_000);
        return properties;
    }
}

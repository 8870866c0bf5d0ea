package bench;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.common.typeinfo.TypeHint;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;

/** Flink in local mode doing the whole job: events and 1-minute windows into ClickHouse, enriched topic into Kafka. */
public final class Flink {
    /** Kafka record to event. */
    static final class Parse implements KafkaRecordDeserializationSchema<Event> {
        @Override
        public void deserialize(ConsumerRecord<byte[], byte[]> message, Collector<Event> out) throws IOException {
            Meter.record();
            out.collect(Event.of(Json.LINES.readValue(message.value()), message.topic(), message.partition(), message.offset(),
                message.timestamp()));
        }

        @Override
        public TypeInformation<Event> getProducedType() {
            return TypeInformation.of(Event.class);
        }
    }

    /** Event to JSON. */
    static final class Write implements SerializationSchema<Event> {
        @Override
        public byte[] serialize(Event event) {
            try {
                return Json.EVENTS.writeValueAsBytes(event);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        JsonNode orders = Json.MAPPER.readTree(arguments[0]);
        String brokers = orders.get("brokers").asText();
        String topic = orders.get("topic").asText();
        Map<TopicPartition, Long> ends = new HashMap<>();
        for (int i = 0; i < orders.get("limits").size(); i++) {
            ends.put(new TopicPartition(topic, i), orders.get("limits").get(i).asLong());
        }
        StreamExecutionEnvironment env = environment(orders);
        KafkaSource<Event> source = KafkaSource.<Event>builder().setBootstrapServers(brokers).setTopics(topic)
            .setGroupId(orders.get("group").asText()).setStartingOffsets(OffsetsInitializer.earliest())
            .setBounded(OffsetsInitializer.offsets(ends)).setDeserializer(new Parse())
            .setProperty("partition.discovery.interval.ms", "-1").setProperty("max.poll.records", "5000")
            .setProperty("fetch.min.bytes", "100000").build();
        WatermarkStrategy<Event> watermarks = WatermarkStrategy.<Event>forBoundedOutOfOrderness(Duration.ofSeconds(5))
            .withTimestampAssigner((event, kafka) -> event.ended);
        DataStream<Event> events = env.fromSource(source, watermarks, "access log")
            .map(Event::labelled).filter(Event::stored);
        String url = "http://" + orders.get("host").asText() + ":" + orders.get("port").asText();
        String user = orders.get("user").asText();
        String password = orders.get("password").asText();
        String database = orders.get("database").asText();
        events.sinkTo(new ClickHouse<Event>(url, user, password, database + ".raw_events", Event.COLUMNS, Event::write));
        events.sinkTo(KafkaSink.<Event>builder().setBootstrapServers(brokers)
            .setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE)
            .setProperty("compression.type", "zstd").setProperty("linger.ms", "50").setProperty("batch.size", "500000")
            .setRecordSerializer(KafkaRecordSerializationSchema.<Event>builder().setTopic(orders.get("output").asText())
                .setKeySerializationSchema((Event event) -> event.source_ip.getBytes(StandardCharsets.UTF_8))
                .setValueSerializationSchema(new Write()).build())
            .build());
        DataStream<Flow> windows = events.map(Flow::of)
            .keyBy(Flow::key, TypeInformation.of(new TypeHint<>() {}))
            .window(TumblingEventTimeWindows.of(Duration.ofMinutes(1))).reduce(Flow::plus);
        windows.sinkTo(new ClickHouse<Flow>(url, user, password, database + ".raw_windows_1m", Flow.COLUMNS, Flow::write));
        env.execute("bench");
        Meter.report(Map.of());
    }

    private static StreamExecutionEnvironment environment(JsonNode orders) {
        Configuration configuration = new Configuration();
        configuration.setString("pipeline.object-reuse", "true");
        configuration.setString("execution.checkpointing.interval", "10 s");
        configuration.setString("execution.checkpointing.dir", "file://" + orders.get("folder").asText());
        // No sink commits in two phases: without this the job's end waits for one more checkpoint.
        configuration.setString("execution.checkpointing.checkpoints-after-tasks-finish.enabled", "false");
        return StreamExecutionEnvironment.createLocalEnvironment(2, configuration);
    }
}

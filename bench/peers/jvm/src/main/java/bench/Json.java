package bench;

import com.fasterxml.jackson.annotation.JsonIgnore;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;

/** Jackson bound to the two shapes: access-log records in, enriched records out. Both are thread-safe. */
final class Json {
    static final ObjectMapper MAPPER = new ObjectMapper();
    static final ObjectReader LINES = MAPPER.readerFor(Event.Line.class);
    static final ObjectWriter EVENTS = new ObjectMapper().addMixIn(Event.class, NoNumbers.class).writerFor(Event.class);

    private Json() {}

    /** They say the same as `event_time`, `start_time` and `kafka_timestamp`. */
    private abstract static class NoNumbers {
        @JsonIgnore public long ended;
        @JsonIgnore public long started;
        @JsonIgnore public long sent;
    }
}

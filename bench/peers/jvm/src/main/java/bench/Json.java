package bench;

import com.fasterxml.jackson.annotation.JsonIgnore;
import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;

/** Jackson bound to the two shapes: access-log records in, enriched records out. Both are thread-safe. */
final class Json {
    static final ObjectMapper MAPPER = new ObjectMapper();
    static final ObjectReader LINES = MAPPER.readerFor(Event.Line.class);
    static final ObjectWriter EVENTS = new ObjectMapper().setSerializationInclusion(JsonInclude.Include.NON_NULL)
        .addMixIn(Event.class, NoEnd.class).writerFor(Event.class);

    private Json() {}

    /** `ended` says the same as `event_time`. */
    private abstract static class NoEnd {
        @JsonIgnore public long ended;
    }
}

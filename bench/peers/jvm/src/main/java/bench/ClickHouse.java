package bench;

import java.io.IOException;
import java.io.Serializable;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;

/** A sink over HTTP: 50,000 rows an insert, one in flight, all acknowledged at each checkpoint (at least once). */
final class ClickHouse<T> implements Sink<T> {
    /** Writes one element as a row. */
    interface Encoder<T> extends Serializable {
        void write(T element, RowBinary row);
    }

    private static final int ROWS = 50_000;
    private final String url;
    private final String user;
    private final String password;
    private final Encoder<T> encoder;

    ClickHouse(String url, String user, String password, String table, String columns, Encoder<T> encoder) {
        String insert = "INSERT INTO " + table + " (" + columns + ") FORMAT RowBinary";
        this.url = url + "/?query=" + URLEncoder.encode(insert, StandardCharsets.UTF_8);
        this.user = user;
        this.password = password;
        this.encoder = encoder;
    }

    @Override
    public SinkWriter<T> createWriter(WriterInitContext context) {
        return new Writer();
    }

    private final class Writer implements SinkWriter<T> {
        private final HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        private final RowBinary rows = new RowBinary();
        private CompletableFuture<HttpResponse<String>> flying;
        private int count;

        @Override
        public void write(T element, Context context) throws IOException, InterruptedException {
            encoder.write(element, rows);
            if (++count == ROWS) {
                send();
            }
        }

        @Override
        public void flush(boolean endOfInput) throws IOException, InterruptedException {
            send();
            land();
        }

        private void send() throws IOException, InterruptedException {
            land();
            if (count > 0) {
                HttpRequest request = HttpRequest.newBuilder(URI.create(url)).header("X-ClickHouse-User", user)
                    .header("X-ClickHouse-Key", password)
                    .POST(HttpRequest.BodyPublishers.ofByteArray(rows.take())).build();
                flying = client.sendAsync(request, HttpResponse.BodyHandlers.ofString());
                count = 0;
            }
        }

        private void land() throws IOException, InterruptedException {
            if (flying == null) {
                return;
            }
            try {
                HttpResponse<String> answer = flying.get();
                if (answer.statusCode() != 200) {
                    throw new IOException(answer.statusCode() + " " + answer.body());
                }
            } catch (ExecutionException error) {
                throw new IOException(error.getCause());
            }
            flying = null;
        }

        @Override
        public void close() {}
    }
}

package bench;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * Rows in ClickHouse's RowBinary format: numbers little-endian, strings and arrays with their length before them.
 *
 * <p>`some` and `maybe` are for Nullable columns: a byte that says whether the value is absent comes first.
 */
final class RowBinary {
    private ByteBuffer bytes = ByteBuffer.allocate(1 << 20).order(ByteOrder.LITTLE_ENDIAN);

    RowBinary int32(int value) {
        room(4).putInt(value);
        return this;
    }

    RowBinary int64(long value) {
        room(8).putLong(value);
        return this;
    }

    RowBinary string(String value) {
        byte[] text = value.getBytes(StandardCharsets.UTF_8);
        length(text.length);
        room(text.length).put(text);
        return this;
    }

    RowBinary strings(String[] values) {
        length(values.length);
        for (String value : values) {
            string(value);
        }
        return this;
    }

    RowBinary numbers(long[] values) {
        length(values.length);
        for (long value : values) {
            int64(value);
        }
        return this;
    }

    RowBinary some(int value) {
        return absent(false).int32(value);
    }

    RowBinary some(long value) {
        return absent(false).int64(value);
    }

    RowBinary some(boolean value) {
        absent(false).room(1).put((byte) (value ? 1 : 0));
        return this;
    }

    RowBinary maybe(String value) {
        return value == null ? absent(true) : absent(false).string(value);
    }

    RowBinary maybe(Integer value) {
        return value == null ? absent(true) : some(value.intValue());
    }

    RowBinary maybe(Long value) {
        return value == null ? absent(true) : some(value.longValue());
    }

    private RowBinary absent(boolean absent) {
        room(1).put((byte) (absent ? 1 : 0));
        return this;
    }

    private void length(int length) {
        ByteBuffer into = room(5);
        while (length > 127) {
            into.put((byte) (length & 127 | 128));
            length >>>= 7;
        }
        into.put((byte) length);
    }

    private ByteBuffer room(int wanted) {
        if (bytes.remaining() < wanted) {
            byte[] larger = Arrays.copyOf(bytes.array(), Math.max(bytes.capacity() * 2, bytes.position() + wanted));
            bytes = ByteBuffer.wrap(larger).order(ByteOrder.LITTLE_ENDIAN).position(bytes.position());
        }
        return bytes;
    }

    /** All rows so far; then empty. */
    byte[] take() {
        byte[] body = Arrays.copyOf(bytes.array(), bytes.position());
        bytes.clear();
        return body;
    }
}

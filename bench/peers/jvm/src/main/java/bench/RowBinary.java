package bench;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** Rows in ClickHouse's RowBinary format: numbers little-endian, strings with their length before them. */
final class RowBinary {
    private ByteBuffer bytes = ByteBuffer.allocate(1 << 20).order(ByteOrder.LITTLE_ENDIAN);

    RowBinary int16(int value) {
        room(2).putShort((short) value);
        return this;
    }

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
        ByteBuffer into = room(text.length + 5);
        int length = text.length;
        while (length > 127) {
            into.put((byte) (length & 127 | 128));
            length >>>= 7;
        }
        into.put((byte) length).put(text);
        return this;
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

package org.sentei.format;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.stream.Collectors;
import java.util.stream.LongStream;
import org.sentei.tensor.DType;

/** Builds safetensors files for tests, well-formed or not. */
final class SafetensorsFile {
    private final StringBuilder header = new StringBuilder();
    private final ByteArrayOutputStream data = new ByteArrayOutputStream();

    /** The bytes of a file with this header and data. */
    static byte[] file(String header, byte[] data) {
        return file(header.getBytes(StandardCharsets.UTF_8).length, header, data);
    }

    /** The bytes of a file that claims this header length. */
    static byte[] file(long length, String header, byte[] data) {
        byte[] text = header.getBytes(StandardCharsets.UTF_8);
        return ByteBuffer.allocate(8 + text.length + data.length)
                .order(ByteOrder.LITTLE_ENDIAN)
                .putLong(length)
                .put(text)
                .put(data)
                .array();
    }

    /** The header's entry of one tensor. */
    static String entry(String name, String dtype, String shape, long begin, long end) {
        return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":[" + begin + ","
                + end + "]}";
    }

    SafetensorsFile metadata(String json) {
        separate().append("\"__metadata__\":").append(json);
        return this;
    }

    SafetensorsFile tensor(String name, DType dtype, byte[] bytes, long... shape) {
        String dimensions = LongStream.of(shape).mapToObj(Long::toString).collect(Collectors.joining(",", "[", "]"));
        separate().append(entry(name, dtype.name(), dimensions, data.size(), data.size() + bytes.length));
        data.writeBytes(bytes);
        return this;
    }

    byte[] bytes() {
        String json = "{" + header + "}";
        return file(json + " ".repeat(-json.length() & 7), data.toByteArray());
    }

    Path write(Path file) {
        try {
            return Files.write(file, bytes());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Bytes 1, 2, 3, ...: every tensor's content is telling. */
    static byte[] counting(int length) {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++) {
            bytes[i] = (byte) (i + 1);
        }
        return bytes;
    }

    static byte[] truncated(byte[] file, int length) {
        return Arrays.copyOf(file, length);
    }

    private StringBuilder separate() {
        return header.isEmpty() ? header : header.append(',');
    }
}

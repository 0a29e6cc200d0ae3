package org.sentei.format;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * One safetensors file, mapped into memory and checked as a whole.
 *
 * <p>The format: the header's length as 8 bytes little-endian, a JSON header {@code name -> dtype, shape, data_offsets},
 * then the data, which the tensors fill without gap or overlap. Nothing is handed out from a file that breaks any of this.
 */
public final class Safetensors {
    /** The bound of the format's reference implementation. */
    private static final long MAX_HEADER_BYTES = 100_000_000;

    private static final int MAX_TENSORS = 1_000_000;
    private static final int MAX_NAME = 1024;
    private static final int MAX_RANK = 64;
    private static final int PREFIX_BYTES = 8;
    private static final String METADATA = "__metadata__";
    private static final ValueLayout.OfLong LENGTH = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    /** Where a tensor lies: bytes {@code begin} to {@code end} (exclusive) of the data that follow the header. */
    record Entry(String name, DType dtype, Shape shape, long begin, long end) {}

    private final Path file;
    private final MemorySegment content;
    private final long headerBytes;
    private final Map<String, Entry> entries;

    private Safetensors(Path file, MemorySegment content, long headerBytes, Map<String, Entry> entries) {
        this.file = file;
        this.content = content;
        this.headerBytes = headerBytes;
        this.entries = entries;
    }

    /**
     * Maps a file; its tensors are valid while {@code arena} lives, and nobody may shorten the file meanwhile.
     *
     * @throws FormatException when the file is absent, unreadable, truncated or breaks the format
     */
    public static Safetensors map(Path file, Arena arena) {
        if (!Files.isRegularFile(file)) {
            throw new FormatException(file + (Files.exists(file) ? " is no regular file" : " does not exist")
                    + ": give a .safetensors file");
        }
        MemorySegment content;
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            content = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
        } catch (IOException e) {
            throw new FormatException(file + " cannot be read (" + e + "): check its permissions", e);
        }
        long headerBytes = headerBytes(file, content);
        Map<String, Entry> entries;
        try (JsonParser parser = Json.parser(header(content, headerBytes))) {
            entries = entries(file, parser);
        } catch (IOException e) {
            throw Json.damaged(file + ": the header", e);
        }
        checkLayout(file, entries.values(), content.byteSize() - PREFIX_BYTES - headerBytes);
        return new Safetensors(file, content, headerBytes, entries);
    }

    public Path file() {
        return file;
    }

    /** All names, in the header's order. */
    public Collection<String> names() {
        return entries.keySet();
    }

    public boolean contains(String name) {
        return entries.containsKey(name);
    }

    /**
     * The tensor of this name.
     *
     * @throws FormatException when the file has none
     */
    public Tensor tensor(String name) {
        Entry entry = entries.get(name);
        if (entry == null) {
            throw new FormatException(file + " has no tensor " + name);
        }
        return new Tensor(entry.name, entry.dtype, entry.shape, data().asSlice(entry.begin, entry.end - entry.begin));
    }

    /** Where the tensors lie, in the order of the data. */
    List<Entry> entriesByOffset() {
        return byOffset(entries.values());
    }

    /** The header's JSON, padding included. */
    byte[] header() {
        return header(content, headerBytes);
    }

    /** Everything that follows the header. */
    MemorySegment data() {
        return content.asSlice(PREFIX_BYTES + headerBytes);
    }

    private static long headerBytes(Path file, MemorySegment content) {
        if (content.byteSize() < PREFIX_BYTES) {
            throw new FormatException(file + " is truncated: it has " + content.byteSize()
                    + " bytes, the header's length alone takes 8; fetch it again");
        }
        long length = content.get(LENGTH, 0);
        if (length < 0 || length > MAX_HEADER_BYTES) {
            throw new FormatException(file + " is no safetensors file: it says its header has "
                    + Long.toUnsignedString(length) + " bytes, at most " + MAX_HEADER_BYTES + " are allowed");
        }
        if (length > content.byteSize() - PREFIX_BYTES) {
            throw new FormatException(file + " is truncated: its header has " + length + " bytes, the whole file "
                    + content.byteSize() + "; fetch it again");
        }
        return length;
    }

    private static byte[] header(MemorySegment content, long length) {
        return content.asSlice(PREFIX_BYTES, length).toArray(ValueLayout.JAVA_BYTE);
    }

    private static Map<String, Entry> entries(Path file, JsonParser parser) throws IOException {
        Json.expect(parser.nextToken(), JsonToken.START_OBJECT, "the header", file);
        Map<String, Entry> entries = new LinkedHashMap<>();
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String name = parser.currentName();
            JsonToken value = parser.nextToken();
            if (name.equals(METADATA)) {
                checkMetadata(file, parser, value);
                continue;
            }
            if (name.isEmpty() || name.length() > MAX_NAME || name.chars().anyMatch(Character::isISOControl)) {
                throw new FormatException(file + " has a tensor whose name is empty, longer than " + MAX_NAME
                        + " or holds control characters: the file is damaged or hostile");
            }
            if (entries.size() == MAX_TENSORS) {
                throw new FormatException(file + " has more than " + MAX_TENSORS + " tensors: split it into shards");
            }
            entries.put(name, entry(file, parser, name, value));
        }
        Json.expectEnd(parser, file);
        return entries;
    }

    private static void checkMetadata(Path file, JsonParser parser, JsonToken value) throws IOException {
        Json.expect(value, JsonToken.START_OBJECT, METADATA, file);
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            Json.expect(parser.nextToken(), JsonToken.VALUE_STRING, "every value of " + METADATA, file);
        }
    }

    private static Entry entry(Path file, JsonParser parser, String name, JsonToken value) throws IOException {
        String subject = "tensor " + name;
        Json.expect(value, JsonToken.START_OBJECT, subject, file);
        DType dtype = null;
        long[] dimensions = null;
        long[] offsets = null;
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String key = parser.currentName();
            JsonToken field = parser.nextToken();
            switch (key) {
                case "dtype" -> {
                    Json.expect(field, JsonToken.VALUE_STRING, "dtype of " + subject, file);
                    dtype = dtype(file, subject, parser.getText());
                }
                case "shape" -> dimensions = integers(file, parser, "shape of " + subject, field);
                case "data_offsets" -> offsets = integers(file, parser, "data_offsets of " + subject, field);
                default -> parser.skipChildren();
            }
        }
        if (dtype == null || dimensions == null || offsets == null || offsets.length != 2) {
            throw new FormatException(
                    file + ": " + subject + " needs a dtype, a shape and two data_offsets; the file is damaged");
        }
        Shape shape;
        long bytes;
        try {
            shape = Shape.of(dimensions);
            bytes = dtype.bytesFor(shape.elements());
        } catch (ArithmeticException | IllegalArgumentException e) {
            throw new FormatException(
                    file + ": " + subject + " cannot have shape " + Arrays.toString(dimensions) + " of " + dtype + " ("
                            + e.getMessage() + "); the file is damaged",
                    e);
        }
        long begin = offsets[0];
        long end = offsets[1];
        if (begin < 0 || end < begin || end - begin != bytes) {
            throw new FormatException(file + ": " + subject + " of " + dtype + " " + shape + " takes " + bytes
                    + " bytes, its data_offsets are " + begin + " to " + end + "; the file is damaged");
        }
        return new Entry(name, dtype, shape, begin, end);
    }

    private static DType dtype(Path file, String subject, String label) {
        try {
            return DType.valueOf(label);
        } catch (IllegalArgumentException e) {
            throw new FormatException(
                    file + ": " + subject + " has the unknown dtype " + label + "; known are "
                            + Arrays.toString(DType.values()),
                    e);
        }
    }

    private static long[] integers(Path file, JsonParser parser, String subject, JsonToken value) throws IOException {
        Json.expect(value, JsonToken.START_ARRAY, subject, file);
        long[] values = new long[MAX_RANK];
        int count = 0;
        for (JsonToken token = parser.nextToken(); token != JsonToken.END_ARRAY; token = parser.nextToken()) {
            Json.expect(token, JsonToken.VALUE_NUMBER_INT, "every element of " + subject, file);
            if (count == MAX_RANK) {
                throw new FormatException(file + ": " + subject + " has more than " + MAX_RANK + " elements");
            }
            values[count++] = parser.getLongValue();
        }
        return Arrays.copyOf(values, count);
    }

    private static void checkLayout(Path file, Collection<Entry> entries, long dataBytes) {
        long end = 0;
        String previous = "the header";
        for (Entry entry : byOffset(entries)) {
            if (entry.begin != end) {
                throw new FormatException(file + ": tensor " + entry.name + " starts at byte " + entry.begin
                        + " of the data, but " + previous + " ends at " + end
                        + "; tensors may neither overlap nor leave gaps: the file is damaged");
            }
            end = entry.end;
            previous = "tensor " + entry.name;
        }
        if (end > dataBytes) {
            throw new FormatException(file + " is truncated: its tensors take " + end + " bytes, the file has "
                    + dataBytes + " after the header; fetch it again");
        }
        if (end < dataBytes) {
            throw new FormatException(file + " has " + (dataBytes - end)
                    + " bytes that belong to no tensor: it is damaged or hostile, fetch it again");
        }
    }

    private static List<Entry> byOffset(Collection<Entry> entries) {
        return entries.stream()
                .sorted(Comparator.comparingLong(Entry::begin).thenComparingLong(Entry::end))
                .toList();
    }
}

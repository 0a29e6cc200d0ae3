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
import org.sentei.tensor.BitmaskTensor;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * One safetensors file, mapped into memory and checked as a whole.
 *
 * <p>The format: the header's length as 8 bytes little-endian, a JSON header {@code name -> dtype, shape, data_offsets},
 * then the data, which the tensors fill without gap or overlap. Nothing is handed out from a file that breaks any of this.
 *
 * <p>A file in bitmask storage ({@link BitmaskFile}) is shown as the dense file that it stands for: the same names, order and
 * header. Its packed tensors are unpacked anew every time they are asked for, in memory that the garbage collector frees.
 */
public final class Safetensors {
    static final String METADATA = "__metadata__";

    /** The bound of the format's reference implementation. */
    private static final long MAX_HEADER_BYTES = 100_000_000;

    private static final int MAX_TENSORS = 250_000;
    private static final int MAX_NAME = 1024;
    private static final int MAX_RANK = 64;
    private static final int PREFIX_BYTES = 8;
    private static final ValueLayout.OfLong LENGTH = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    /** Where a tensor lies: bytes {@code begin} to {@code end} (exclusive) of the data that follow the header. */
    record Entry(String name, DType dtype, Shape shape, long begin, long end) {
        long bytes() {
            return end - begin;
        }
    }

    /**
     * What a header says.
     *
     * @param entries the tensors in the header's order
     * @param format member {@code format} of the metadata, empty without one
     */
    record Header(Map<String, Entry> entries, String format) {
        /** The tensors in the order of their data. */
        List<Entry> byOffset() {
            return entries.values().stream()
                    .sorted(Comparator.comparingLong(Entry::begin).thenComparingLong(Entry::end))
                    .toList();
        }
    }

    private final Path file;
    private final byte[] json;
    private final Header header;
    /** Dense tensors as the file holds them. */
    private final Map<String, MemorySegment> stored;

    private final Map<String, BitmaskTensor> packed;

    private Safetensors(
            Path file,
            byte[] json,
            Header header,
            Map<String, MemorySegment> stored,
            Map<String, BitmaskTensor> packed) {
        this.file = file;
        this.json = json;
        this.header = header;
        this.stored = stored;
        this.packed = packed;
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
        byte[] json = content.asSlice(PREFIX_BYTES, headerBytes).toArray(ValueLayout.JAVA_BYTE);
        MemorySegment data = content.asSlice(PREFIX_BYTES + headerBytes);
        Header header = parse(file.toString(), json);
        checkEnd(file, checkLayout(file.toString(), header), data.byteSize());
        Map<String, MemorySegment> stored = new LinkedHashMap<>();
        header.entries.forEach((name, entry) -> stored.put(name, data.asSlice(entry.begin, entry.bytes())));
        if (!header.format.equals(BitmaskFile.FORMAT)) {
            return new Safetensors(file, json, header, stored, Map.of());
        }
        BitmaskFile.Content packed = BitmaskFile.read(file, header, stored);
        return new Safetensors(
                file, packed.json().toArray(ValueLayout.JAVA_BYTE), packed.header(), packed.dense(), packed.packed());
    }

    /** The file that is mapped. */
    public Path file() {
        return file;
    }

    /** All names, in the header's order. */
    public Collection<String> names() {
        return header.entries.keySet();
    }

    /** Whether there is a tensor of this name. */
    public boolean contains(String name) {
        return header.entries.containsKey(name);
    }

    /**
     * The tensor of this name.
     *
     * @throws FormatException when the file has none
     */
    public Tensor tensor(String name) {
        Entry entry = entry(name);
        BitmaskTensor compact = packed.get(name);
        return compact == null
                ? new Tensor(name, entry.dtype, entry.shape, stored.get(name))
                : compact.unpack(Arena.ofAuto());
    }

    /**
     * What the header says of the tensor of this name, for which nothing is unpacked.
     *
     * @throws FormatException when the file has none
     */
    Entry entry(String name) {
        Entry entry = header.entries.get(name);
        if (entry == null) {
            throw new FormatException(file + " has no tensor " + name);
        }
        return entry;
    }

    /** Where the tensors lie in the dense file, in the order of the data. */
    List<Entry> entriesByOffset() {
        return header.byOffset();
    }

    /** The dense file's header, padding included. */
    byte[] header() {
        return json;
    }

    /** Bytes of all tensors, dense. */
    long dataBytes() {
        return header.entries.values().stream().mapToLong(Entry::bytes).sum();
    }

    /** Bytes of the whole file when it is dense. */
    long denseBytes() {
        return PREFIX_BYTES + json.length + dataBytes();
    }

    /** The tensors that the file holds as mask and values. */
    Collection<BitmaskTensor> packed() {
        return packed.values();
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

    /**
     * Reads a header.
     *
     * @param file named in errors
     */
    static Header parse(String file, byte[] json) {
        try (JsonParser parser = Json.parser(json)) {
            return parse(file, parser);
        } catch (IOException e) {
            throw Json.damaged(file + ": the header", e);
        }
    }

    private static Header parse(String file, JsonParser parser) throws IOException {
        Json.expect(parser.nextToken(), JsonToken.START_OBJECT, "the header", file);
        Map<String, Entry> entries = new LinkedHashMap<>();
        String format = "";
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String name = parser.currentName();
            JsonToken value = parser.nextToken();
            if (name.equals(METADATA)) {
                format = format(file, parser, value);
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
        return new Header(entries, format);
    }

    private static String format(String file, JsonParser parser, JsonToken value) throws IOException {
        Json.expect(value, JsonToken.START_OBJECT, METADATA, file);
        String format = "";
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            boolean wanted = parser.currentName().equals("format");
            Json.expect(parser.nextToken(), JsonToken.VALUE_STRING, "every value of " + METADATA, file);
            if (wanted) {
                format = parser.getText();
            }
        }
        return format;
    }

    private static Entry entry(String file, JsonParser parser, String name, JsonToken value) throws IOException {
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

    private static DType dtype(String file, String subject, String label) {
        try {
            return DType.valueOf(label);
        } catch (IllegalArgumentException e) {
            throw new FormatException(
                    file + ": " + subject + " has the unknown dtype " + label + "; known are "
                            + Arrays.toString(DType.values()),
                    e);
        }
    }

    private static long[] integers(String file, JsonParser parser, String subject, JsonToken value) throws IOException {
        Json.expect(value, JsonToken.START_ARRAY, subject, file);
        long[] values = new long[4];
        int count = 0;
        for (JsonToken token = parser.nextToken(); token != JsonToken.END_ARRAY; token = parser.nextToken()) {
            Json.expect(token, JsonToken.VALUE_NUMBER_INT, "every element of " + subject, file);
            if (count == MAX_RANK) {
                throw new FormatException(file + ": " + subject + " has more than " + MAX_RANK + " elements");
            }
            if (count == values.length) {
                values = Arrays.copyOf(values, 2 * count);
            }
            values[count++] = parser.getLongValue();
        }
        return Arrays.copyOf(values, count);
    }

    /**
     * Checks that tensors leave no gap and do not overlap.
     *
     * @return where the last one ends
     */
    static long checkLayout(String file, Header header) {
        long end = 0;
        String previous = "the header";
        for (Entry entry : header.byOffset()) {
            if (entry.begin != end) {
                throw new FormatException(file + ": tensor " + entry.name + " starts at byte " + entry.begin
                        + " of the data, but " + previous + " ends at " + end
                        + "; tensors may neither overlap nor leave gaps: the file is damaged");
            }
            end = entry.end;
            previous = "tensor " + entry.name;
        }
        return end;
    }

    private static void checkEnd(Path file, long end, long dataBytes) {
        if (end > dataBytes) {
            throw new FormatException(file + " is truncated: its tensors take " + end + " bytes, the file has "
                    + dataBytes + " after the header; fetch it again");
        }
        if (end < dataBytes) {
            throw new FormatException(file + " has " + (dataBytes - end)
                    + " bytes that belong to no tensor: it is damaged or hostile, fetch it again");
        }
    }
}

package org.sentei.format;

import com.google.protobuf.CodedInputStream;
import com.google.protobuf.WireFormat;
import java.io.IOException;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.channels.WritableByteChannel;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Set;
import java.util.function.Function;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.format.onnx.proto.ModelProto;
import org.sentei.format.onnx.proto.StringStringEntryProto;
import org.sentei.format.onnx.proto.TensorProto;

/**
 * The serialized form of a model, its large initializers where they are: Protobuf copies all bytes of a message to the heap,
 * so it gets the model without theirs. Such an initializer says that it lies in another file, {@link #THIS_FILE}.
 */
final class OnnxWire {
    /** The location of tensors in the model's own file: no file can have this name. */
    static final String THIS_FILE = "\0";
    /** Bytes from which on an initializer is large. */
    static final int LARGE = 1 << 12;

    private static final int GRAPH = ModelProto.GRAPH_FIELD_NUMBER;
    private static final int MOST_VARINT_BYTES = 10;
    private static final int BUFFER_BYTES = 1 << 16;
    private static final Set<Integer> LOCATION_FIELDS =
            Set.of(TensorProto.DATA_LOCATION_FIELD_NUMBER, TensorProto.EXTERNAL_DATA_FIELD_NUMBER);

    private final ByteBuffer model;

    private OnnxWire(ByteBuffer model) {
        this.model = model;
    }

    /** Whether the tensor is an initializer that {@link #parse} left in the file. */
    static boolean isLarge(TensorProto tensor) {
        return tensor.getDataLocation() == TensorProto.DataLocation.EXTERNAL
                && tensor.getExternalDataList().contains(entry("location", THIS_FILE));
    }

    private static StringStringEntryProto entry(String key, String value) {
        return StringStringEntryProto.newBuilder().setKey(key).setValue(value).build();
    }

    /**
     * Parses a model.
     *
     * @param file all of it
     * @throws IOException as protobuf does for what is no model
     */
    static ModelProto parse(ByteBuffer file) throws IOException {
        CodedInputStream input = CodedInputStream.newInstance(new OnnxWire(file).withoutLarge());
        input.enableAliasing(true);
        ModelProto model = ModelProto.parseFrom(input);
        input.checkLastTagWas(0);
        return model;
    }

    /** The model without what is large; all of it where it is no plain one, and so protobuf's to judge. */
    private byte[] withoutLarge() throws IOException {
        try {
            List<Field> fields = fields(0, model.limit());
            if (fields.stream().filter(field -> field.holds(GRAPH)).count() == 1) {
                return withInitializers(fields, this::withoutLarge).toByteArray();
            }
        } catch (BufferUnderflowException | IllegalArgumentException e) {
            // protobuf tells what is wrong
        }
        byte[] all = new byte[model.limit()];
        model.get(0, all);
        return all;
    }

    /** The model with other content of the initializers of its graph. */
    private Parts withInitializers(List<Field> fields, Function<Field, Parts> initializer) {
        return with(fields, GRAPH, graph -> with(fields(graph), GraphProto.INITIALIZER_FIELD_NUMBER, initializer));
    }

    /** A message of these fields, with other content of those with a number. */
    private Parts with(List<Field> fields, int number, Function<Field, Parts> content) {
        Parts parts = new Parts();
        for (Field field : fields) {
            if (field.holds(number)) {
                parts.add(number, content.apply(field));
            } else {
                parts.add(model.slice(field.start(), field.end() - field.start()));
            }
        }
        return parts;
    }

    private Parts withoutLarge(Field initializer) {
        List<Field> fields = fields(initializer);
        List<Field> raw = fields.stream()
                .filter(field -> field.number() == TensorProto.RAW_DATA_FIELD_NUMBER)
                .toList();
        if (raw.size() != 1
                || !raw.getFirst().holds(TensorProto.RAW_DATA_FIELD_NUMBER)
                || raw.getFirst().length() < LARGE
                || fields.stream().map(Field::number).anyMatch(LOCATION_FIELDS::contains)) {
            return content(initializer);
        }
        Field large = raw.getFirst();
        fields.remove(large);
        Parts parts = with(fields, TensorProto.RAW_DATA_FIELD_NUMBER, this::content);
        return parts.add(ByteBuffer.wrap(TensorProto.newBuilder()
                .setDataLocation(TensorProto.DataLocation.EXTERNAL)
                .addExternalData(entry("location", THIS_FILE))
                .addExternalData(entry("offset", Integer.toString(large.content())))
                .addExternalData(entry("length", Integer.toString(large.length())))
                .build()
                .toByteArray()));
    }

    /**
     * Writes a model with its large initializers.
     *
     * @param large bytes of each initializer that {@link #isLarge}
     * @throws IOException when there is no room, or the model would exceed the 2 GiB of one file
     */
    static void write(ModelProto model, Function<TensorProto, ByteBuffer> large, WritableByteChannel target)
            throws IOException {
        List<TensorProto> initializers = model.getGraph().getInitializerList();
        ByteBuffer small = ByteBuffer.wrap(model.toByteArray());
        Parts parts = new Parts();
        if (initializers.stream().anyMatch(OnnxWire::isLarge)) {
            OnnxWire wire = new OnnxWire(small);
            Iterator<TensorProto> next = initializers.iterator();
            parts = wire.withInitializers(wire.fields(0, small.limit()), field -> {
                TensorProto tensor = next.next();
                return isLarge(tensor) ? withLarge(tensor, large.apply(tensor)) : wire.content(field);
            });
        } else {
            parts.add(small);
        }
        parts.writeTo(target);
    }

    private static Parts withLarge(TensorProto tensor, ByteBuffer bytes) {
        return new Parts()
                .add(ByteBuffer.wrap(withoutLocation(tensor).build().toByteArray()))
                .add(TensorProto.RAW_DATA_FIELD_NUMBER, new Parts().add(bytes));
    }

    /** The tensor without the word where its bytes are. */
    static TensorProto.Builder withoutLocation(TensorProto tensor) {
        return tensor.toBuilder().clearExternalData().clearDataLocation();
    }

    private Parts content(Field field) {
        return new Parts().add(model.slice(field.content(), field.length()));
    }

    /** Bytes that follow each other, each where it is. */
    private static final class Parts {
        private final List<ByteBuffer> parts = new ArrayList<>();
        private long size;

        Parts add(ByteBuffer part) {
            parts.add(part);
            size += part.remaining();
            return this;
        }

        /** Adds a field that holds these bytes. */
        Parts add(int number, Parts content) {
            ByteBuffer prefix = ByteBuffer.allocate(2 * MOST_VARINT_BYTES);
            putVarint(prefix, number << 3 | WireFormat.WIRETYPE_LENGTH_DELIMITED);
            putVarint(prefix, content.size);
            add(prefix.flip());
            parts.addAll(content.parts);
            size += content.size;
            return this;
        }

        byte[] toByteArray() {
            ByteBuffer all = ByteBuffer.allocate(Math.toIntExact(size));
            parts.forEach(all::put);
            return all.array();
        }

        void writeTo(WritableByteChannel target) throws IOException {
            if (size > Integer.MAX_VALUE) {
                throw new IOException(
                        "it would exceed the 2 GiB of one ONNX file; save the model with external data before");
            }
            ByteBuffer small = ByteBuffer.allocate(BUFFER_BYTES);
            for (ByteBuffer part : parts) {
                if (part.remaining() > small.remaining()) {
                    writeAll(small.flip(), target);
                    small.clear();
                }
                if (part.remaining() > small.remaining()) {
                    writeAll(part, target);
                } else {
                    small.put(part);
                }
            }
            writeAll(small.flip(), target);
        }

        private static void writeAll(ByteBuffer bytes, WritableByteChannel target) throws IOException {
            while (bytes.hasRemaining()) {
                target.write(bytes);
            }
        }
    }

    /**
     * One field of a message.
     *
     * @param start where its tag begins in the model
     * @param content where its first byte behind tag and length is
     */
    private record Field(int tag, int start, int content, int end) {
        int number() {
            return WireFormat.getTagFieldNumber(tag);
        }

        /** Whether this is a message or bytes with this number. */
        boolean holds(int number) {
            return tag == (number << 3 | WireFormat.WIRETYPE_LENGTH_DELIMITED);
        }

        int length() {
            return end - content;
        }
    }

    private List<Field> fields(Field message) {
        return fields(message.content(), message.end());
    }

    /**
     * The fields of the message in this range.
     *
     * @throws BufferUnderflowException when a field ends behind the message
     * @throws IllegalArgumentException for a field that writers of today do not write, such as a group
     */
    private List<Field> fields(int from, int to) {
        List<Field> fields = new ArrayList<>();
        ByteBuffer message = model.slice(from, to - from);
        while (message.hasRemaining()) {
            int start = from + message.position();
            int tag = (int) varint(message);
            long length = switch (WireFormat.getTagWireType(tag)) {
                case WireFormat.WIRETYPE_VARINT -> {
                    varint(message);
                    yield 0;
                }
                case WireFormat.WIRETYPE_FIXED64 -> Long.BYTES;
                case WireFormat.WIRETYPE_LENGTH_DELIMITED -> varint(message);
                case WireFormat.WIRETYPE_FIXED32 -> Integer.BYTES;
                default -> throw new IllegalArgumentException("tag " + tag);
            };
            if (length < 0 || length > message.remaining()) {
                throw new BufferUnderflowException();
            }
            int content = from + message.position();
            message.position(message.position() + (int) length);
            fields.add(new Field(tag, start, content, from + message.position()));
        }
        return fields;
    }

    private static long varint(ByteBuffer message) {
        long value = 0;
        for (int shift = 0; shift < 7 * MOST_VARINT_BYTES; shift += 7) {
            byte next = message.get();
            value |= (next & 0x7fL) << shift;
            if (next >= 0) {
                return value;
            }
        }
        throw new IllegalArgumentException("a number of more than 64 bits");
    }

    private static void putVarint(ByteBuffer message, long value) {
        long rest = value;
        for (; rest > 0x7f; rest >>>= 7) {
            message.put((byte) (rest | 0x80));
        }
        message.put((byte) rest);
    }
}

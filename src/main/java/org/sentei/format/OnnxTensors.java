package org.sentei.format;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.channels.FileChannel.MapMode;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.stream.IntStream;
import org.sentei.format.onnx.proto.AttributeProto;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.format.onnx.proto.NodeProto;
import org.sentei.format.onnx.proto.StringStringEntryProto;
import org.sentei.format.onnx.proto.TensorProto;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** Where the bytes of an ONNX file's tensors are: in the protobuf message or in mapped files beside it. */
final class OnnxTensors {
    private static final ValueLayout.OfShort SHORT =
            ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    /** Highest number of an element type that is known here. */
    private static final int LAST_TYPE = 24;

    private final Path file;
    private final MemorySegment content;
    private final Arena arena;
    private final Map<String, MemorySegment> mapped = new LinkedHashMap<>();

    /** A range of a file beside the model, or of {@link OnnxWire#THIS_FILE}. */
    record External(String location, long offset, long bytes) {}

    /** @param content of the model's own file */
    OnnxTensors(Path file, MemorySegment content, Arena arena) {
        this.file = file;
        this.content = content;
        this.arena = arena;
    }

    /** The element type behind ONNX's number for it; empty for types that are only carried through. */
    static Optional<DType> dtype(int onnx) {
        return Optional.ofNullable(
                switch (onnx) {
                    case 1 -> DType.F32;
                    case 2 -> DType.U8;
                    case 3 -> DType.I8;
                    case 4 -> DType.U16;
                    case 5 -> DType.I16;
                    case 6 -> DType.I32;
                    case 7 -> DType.I64;
                    case 9 -> DType.BOOL;
                    case 10 -> DType.F16;
                    case 11 -> DType.F64;
                    case 12 -> DType.U32;
                    case 13 -> DType.U64;
                    case 14 -> DType.C64;
                    case 16 -> DType.BF16;
                    case 17 -> DType.F8_E4M3;
                    case 19 -> DType.F8_E5M2;
                    case 24 -> DType.F8_E8M0;
                    default -> null;
                });
    }

    /** ONNX's number for an element type that it has. */
    static int number(DType dtype) {
        return IntStream.rangeClosed(1, LAST_TYPE)
                .filter(number -> dtype(number).equals(Optional.of(dtype)))
                .findFirst()
                .orElseThrow(() -> new IllegalArgumentException("ONNX has no tensors of " + dtype));
    }

    /** Files beside the model that hold tensors, by normalized location, mapped read-only. */
    Map<String, MemorySegment> externalFiles() {
        return Collections.unmodifiableMap(mapped);
    }

    /** Maps every file that a tensor of the graph or of its nested graphs points to, and checks the ranges. */
    void mapExternals(GraphProto graph) {
        for (TensorProto tensor : all(graph)) {
            if (isExternal(tensor)) {
                external(tensor);
            }
        }
    }

    /** All tensors: initializers and attributes, nested graphs included. */
    static List<TensorProto> all(GraphProto graph) {
        List<TensorProto> found = new ArrayList<>();
        collect(graph, found);
        return found;
    }

    private static void collect(GraphProto graph, List<TensorProto> found) {
        found.addAll(graph.getInitializerList());
        for (NodeProto node : graph.getNodeList()) {
            for (AttributeProto attribute : node.getAttributeList()) {
                if (attribute.hasT()) {
                    found.add(attribute.getT());
                }
                found.addAll(attribute.getTensorsList());
                if (attribute.hasG()) {
                    collect(attribute.getG(), found);
                }
                for (GraphProto nested : attribute.getGraphsList()) {
                    collect(nested, found);
                }
            }
        }
    }

    static boolean isExternal(TensorProto tensor) {
        return tensor.getDataLocation() == TensorProto.DataLocation.EXTERNAL;
    }

    /** Where an external tensor's bytes are; the range has been checked against the file. */
    External external(TensorProto tensor) {
        String location = null;
        long offset = 0;
        long length = -1;
        for (StringStringEntryProto entry : tensor.getExternalDataList()) {
            switch (entry.getKey()) {
                case "location" -> location = entry.getValue();
                case "offset" -> offset = number(tensor, entry);
                case "length" -> length = number(tensor, entry);
                default -> {
                    // basepath, checksum: no part of where the bytes are
                }
            }
        }
        if (location == null || location.isEmpty()) {
            throw damaged(tensor.getName(), "is stored outside of the file, but names no location");
        }
        String place = location.equals(OnnxWire.THIS_FILE) ? location : place(location);
        MemorySegment data = map(place);
        if (offset > data.byteSize() || (length >= 0 && length > data.byteSize() - offset)) {
            throw damaged(
                    tensor.getName(),
                    "reaches from byte " + offset + " over " + length + " bytes of " + location + ", which has "
                            + data.byteSize());
        }
        long rest = data.byteSize() - offset;
        long bytes = length >= 0
                ? length
                : Math.min(rest, expectedBytes(tensor.getName(), tensor).orElse(rest));
        return new External(place, offset, bytes);
    }

    private long number(TensorProto tensor, StringStringEntryProto entry) {
        try {
            long value = Long.parseLong(entry.getValue());
            if (value >= 0) {
                return value;
            }
        } catch (NumberFormatException e) {
            // reported below, as a negative number is
        }
        throw damaged(tensor.getName(), "has the external " + entry.getKey() + " \"" + entry.getValue() + "\"");
    }

    /** The one spelling of a location, which must stay in the model's folder and apart from the model. */
    private String place(String location) {
        Path folder = folder();
        try {
            Path relative = Path.of(location);
            Path path = folder.resolve(relative).normalize();
            if (relative.isAbsolute() || !path.startsWith(folder) || path.equals(folder)) {
                throw new FormatException(file + ": external location " + location
                        + " leaves the model's folder; copy the weights file beside the model and save it with a"
                        + " relative name");
            }
            if (path.equals(folder.resolve(file.getFileName()))) {
                throw new FormatException(file + ": external location " + location
                        + " is the model itself; the file is damaged, export it again");
            }
            return folder.relativize(path).toString();
        } catch (InvalidPathException e) {
            throw new FormatException(
                    file + ": external location is no file name (" + e.getReason() + "); the file is damaged", e);
        }
    }

    private MemorySegment map(String place) {
        if (place.equals(OnnxWire.THIS_FILE)) {
            return content;
        }
        MemorySegment known = mapped.get(place);
        if (known != null) {
            return known;
        }
        if (!Files.isRegularFile(folder().resolve(place))) {
            throw new FormatException(
                    file + ": its weights file " + place + " is missing; put it beside the model under this name");
        }
        try (FileChannel channel =
                FileChannel.open(HuggingFaceFolder.inside(folder(), place), StandardOpenOption.READ)) {
            MemorySegment segment = channel.map(MapMode.READ_ONLY, 0, channel.size(), arena);
            mapped.put(place, segment);
            return segment;
        } catch (IOException e) {
            throw new FormatException(file + ": cannot read its weights file " + place + ": " + e.getMessage(), e);
        }
    }

    /** The folder that locations are relative to. */
    Path folder() {
        return file.toAbsolutePath().normalize().getParent();
    }

    /** Checks dimensions and size of a tensor whose type we can read; others are carried through. */
    void validate(String name, TensorProto tensor) {
        OptionalLong size = expectedBytes(name, tensor);
        if (size.isEmpty()) {
            return;
        }
        DType dtype = dtype(tensor.getDataType()).orElseThrow();
        Shape shape = shape(name, tensor);
        long expected = size.getAsLong();
        long actual;
        if ((tensor.hasRawData() || OnnxWire.isLarge(tensor)) && typedElements(tensor) != 0) {
            throw damaged(name, "stores its values twice");
        }
        if (isExternal(tensor)) {
            actual = external(tensor).bytes();
        } else if (tensor.hasRawData()) {
            actual = tensor.getRawData().size();
        } else {
            long perElement = dtype == DType.C64 ? 2 : 1;
            actual = typedValues(tensor, dtype) == perElement * shape.elements() ? expected : -1;
        }
        if (actual != expected) {
            throw damaged(
                    name,
                    "of " + dtype + " " + shape + " needs " + expected + " bytes, but has "
                            + (actual < 0 ? typedElements(tensor) + " stored values" : actual));
        }
    }

    /** Bytes of all elements; empty for a type that is only carried through, whose shape is checked all the same. */
    private OptionalLong expectedBytes(String name, TensorProto tensor) {
        Shape shape = shape(name, tensor);
        Optional<DType> dtype = dtype(tensor.getDataType());
        if (dtype.isEmpty()) {
            return OptionalLong.empty();
        }
        try {
            return OptionalLong.of(dtype.get().bytesFor(shape.elements()));
        } catch (ArithmeticException e) {
            throw damaged(name, "has the impossible shape " + shape, e);
        }
    }

    Shape shape(String name, TensorProto tensor) {
        try {
            return Shape.of(
                    tensor.getDimsList().stream().mapToLong(Long::longValue).toArray());
        } catch (IllegalArgumentException | ArithmeticException e) {
            throw damaged(name, "has impossible dimensions (" + e.getMessage() + ")", e);
        }
    }

    /** The validated tensor's bytes; typed fields are copied, everything else is a view. */
    Tensor tensor(String name, TensorProto proto) {
        DType dtype = dtype(proto.getDataType()).orElseThrow();
        Shape shape = shape(name, proto);
        long bytes = dtype.bytesFor(shape.elements());
        MemorySegment data;
        if (isExternal(proto)) {
            data = content(proto);
        } else if (proto.hasRawData()) {
            data = MemorySegment.ofBuffer(proto.getRawData().asReadOnlyByteBuffer());
        } else {
            data = materialise(proto, dtype, bytes);
        }
        return new Tensor(name, dtype, shape, data);
    }

    /** The bytes of an external tensor. */
    MemorySegment content(TensorProto tensor) {
        External range = external(tensor);
        return map(range.location()).asSlice(range.offset(), range.bytes());
    }

    private static MemorySegment materialise(TensorProto proto, DType dtype, long bytes) {
        MemorySegment data = MemorySegment.ofArray(new byte[Math.toIntExact(bytes)]);
        int stored = Math.toIntExact(typedValues(proto, dtype));
        for (int i = 0; i < stored; i++) {
            switch (dtype) {
                case F32, C64 -> data.set(INT, i * 4L, Float.floatToRawIntBits(proto.getFloatData(i)));
                case F64 -> data.set(LONG, i * 8L, Double.doubleToRawLongBits(proto.getDoubleData(i)));
                case I64 -> data.set(LONG, i * 8L, proto.getInt64Data(i));
                case U64 -> data.set(LONG, i * 8L, proto.getUint64Data(i));
                case U32 -> data.set(INT, i * 4L, (int) proto.getUint64Data(i));
                case I32 -> data.set(INT, i * 4L, proto.getInt32Data(i));
                case F16, BF16, I16, U16 -> data.set(SHORT, i * 2L, (short) proto.getInt32Data(i));
                case I8, U8, BOOL, F8_E4M3, F8_E5M2, F8_E8M0 ->
                    data.set(ValueLayout.JAVA_BYTE, i, (byte) proto.getInt32Data(i));
                case F6_E2M3, F6_E3M2, F4 -> throw new IllegalStateException(dtype + " has no typed field");
            }
        }
        return data;
    }

    /** Number of values in the typed field that this element type uses. */
    private static long typedValues(TensorProto tensor, DType dtype) {
        return switch (dtype) {
            case F32, C64 -> tensor.getFloatDataCount();
            case F64 -> tensor.getDoubleDataCount();
            case I64 -> tensor.getInt64DataCount();
            case U64, U32 -> tensor.getUint64DataCount();
            case I32, F16, BF16, I16, U16, I8, U8, BOOL, F8_E4M3, F8_E5M2, F8_E8M0 -> tensor.getInt32DataCount();
            case F6_E2M3, F6_E3M2, F4 -> 0;
        };
    }

    private static long typedElements(TensorProto tensor) {
        return (long) tensor.getFloatDataCount()
                + tensor.getInt32DataCount()
                + tensor.getInt64DataCount()
                + tensor.getDoubleDataCount()
                + tensor.getUint64DataCount();
    }

    private FormatException damaged(String name, String fact) {
        return damaged(name, fact, null);
    }

    private FormatException damaged(String name, String fact, Throwable cause) {
        return new FormatException(
                file + ": tensor \"" + name + "\" " + fact + "; the file is damaged, fetch or export it again", cause);
    }
}

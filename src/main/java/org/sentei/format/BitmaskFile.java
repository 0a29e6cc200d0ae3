package org.sentei.format;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.sentei.tensor.BitmaskTensor;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;

/**
 * Bitmask storage: a safetensors file that stands for a dense one, byte for byte.
 *
 * <p>Its metadata say {@code format: sentei-bitmask}. The matrix {@code NAME} of the dense file is either there as it is, or
 * as {@code NAME}, its kept values in one dimension and of its own type, and {@code NAME.bitmask}, U8 of rows x
 * ceil(cols/8): bit {@code c % 8} of byte {@code c / 8} is set where column {@code c} is kept, the unused high bits are 0.
 * Dropped is only what has no set bit. {@code sentei.dense_header} holds the dense file's header, from which order, shapes
 * and metadata come. Who does not know all this finds a {@code NAME} of the wrong rank, and has to stop.
 */
final class BitmaskFile {
    static final String FORMAT = "sentei-bitmask";

    private static final String MASK = ".bitmask";
    private static final String DENSE_HEADER = "sentei.dense_header";

    private BitmaskFile() {}

    /**
     * The dense file that a file stands for.
     *
     * @param json its header
     * @param header what that says
     * @param dense the tensors that are stored as they are
     * @param packed the others
     */
    record Content(
            MemorySegment json,
            Safetensors.Header header,
            Map<String, MemorySegment> dense,
            Map<String, BitmaskTensor> packed) {}

    /**
     * Checks a file and finds its parts.
     *
     * @param outer what the file's own header says
     * @param stored the data of its tensors
     * @throws FormatException when the parts do not make up exactly the tensors of the dense header
     */
    static Content read(Path file, Safetensors.Header outer, Map<String, MemorySegment> stored) {
        Safetensors.Entry entry = outer.entries().get(DENSE_HEADER);
        if (entry == null || entry.dtype() != DType.U8 || entry.shape().rank() != 1) {
            throw new FormatException(
                    file + " is in bitmask storage, but holds no header of the dense file in a U8 tensor "
                            + DENSE_HEADER + ": it is damaged, fetch it again");
        }
        String subject = file + ": " + DENSE_HEADER;
        MemorySegment json = stored.get(DENSE_HEADER);
        Safetensors.Header header = Safetensors.parse(subject, json.toArray(ValueLayout.JAVA_BYTE));
        if (header.format().equals(FORMAT)) {
            throw new FormatException(subject + " says format " + FORMAT + " again: the file is damaged or hostile");
        }
        Safetensors.checkLayout(subject, header);
        Map<String, MemorySegment> dense = new LinkedHashMap<>();
        Map<String, BitmaskTensor> packed = new LinkedHashMap<>();
        Set<String> used = new HashSet<>(Set.of(DENSE_HEADER));
        for (Safetensors.Entry wanted : header.entries().values()) {
            Safetensors.Entry found = outer.entries().get(wanted.name());
            if (found == null || found.dtype() != wanted.dtype() || !used.add(wanted.name())) {
                throw new FormatException(file + " has no tensor " + wanted.name() + " of " + wanted.dtype()
                        + ", which its " + DENSE_HEADER + " lists: it is damaged, fetch it again");
            }
            if (found.shape().equals(wanted.shape())) {
                dense.put(wanted.name(), stored.get(wanted.name()));
            } else {
                packed.put(wanted.name(), packed(file, wanted, found, outer, stored));
                if (!used.add(wanted.name() + MASK)) {
                    throw new FormatException(file + ": tensor " + wanted.name() + MASK
                            + " is a mask and a tensor of its own: the file is damaged or hostile");
                }
            }
        }
        for (String name : stored.keySet()) {
            if (!used.contains(name)) {
                throw new FormatException(file + " has a tensor " + name + " that is no part of one in its "
                        + DENSE_HEADER + ": it is damaged or hostile, fetch it again");
            }
        }
        return new Content(json, header, dense, packed);
    }

    private static BitmaskTensor packed(
            Path file,
            Safetensors.Entry wanted,
            Safetensors.Entry values,
            Safetensors.Header outer,
            Map<String, MemorySegment> stored) {
        String name = wanted.name();
        Safetensors.Entry mask = outer.entries().get(name + MASK);
        if (!packable(wanted) || values.shape().rank() != 1 || mask == null || mask.dtype() != DType.U8) {
            throw new FormatException(file + ": tensor " + name + " of " + values.dtype() + " " + values.shape()
                    + " is neither the dense " + wanted.shape() + " nor its values beside a U8 mask " + name + MASK
                    + ": the file is damaged, fetch it again");
        }
        if (!mask.shape().equals(maskShape(wanted.shape()))) {
            throw new FormatException(file + ": tensor " + mask.name() + " is " + mask.shape() + ", the mask of "
                    + wanted.shape() + " elements is " + maskShape(wanted.shape()) + ": the file is damaged");
        }
        try {
            return new BitmaskTensor(name, wanted.dtype(), wanted.shape(), stored.get(mask.name()), stored.get(name));
        } catch (IllegalArgumentException e) {
            throw new FormatException(file + ": " + e.getMessage() + "; the file is damaged, fetch it again", e);
        }
    }

    private static boolean packable(Safetensors.Entry entry) {
        return entry.dtype().isFloating() && entry.shape().rank() == 2;
    }

    private static Shape maskShape(Shape dense) {
        return Shape.of(dense.dimension(0), Math.ceilDiv(dense.dimension(1), 8));
    }

    /** How a tensor of the dense file will be stored: {@code kept} of its elements, or all of them when it is negative. */
    private record Part(Safetensors.Entry dense, long kept) {
        boolean packed() {
            return kept >= 0;
        }

        long bytes() {
            return packed() ? dense.dtype().bytesFor(kept) : dense.bytes();
        }
    }

    /**
     * Writes the bitmask storage of a dense file. Matrices that would not get smaller stay as they are.
     *
     * @param target must not exist
     * @return false when no matrix would get smaller, and nothing was written
     * @throws IOException when the file cannot be written
     */
    static boolean pack(Path source, Path target) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            Safetensors file = Safetensors.map(source, arena);
            if (file.contains(DENSE_HEADER)) {
                throw new FormatException(file.file() + " has a tensor " + DENSE_HEADER
                        + ", the name that bitmask storage needs for itself: use storage: dense");
            }
            List<Part> parts = new ArrayList<>();
            for (Safetensors.Entry entry : file.entriesByOffset()) {
                parts.add(part(file, entry));
            }
            if (parts.stream().noneMatch(Part::packed)) {
                return false;
            }
            // wide types first, so that each tensor lies aligned
            parts.sort(Comparator.comparingInt(part -> -part.dense.dtype().bits()));
            try (FileChannel out = FileChannel.open(target, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
                write(file, parts, out, arena.allocate(SafetensorsWriter.CHUNK_BYTES));
            }
            return true;
        }
    }

    private static Part part(Safetensors file, Safetensors.Entry entry) {
        if (packable(entry) && !file.contains(entry.name() + MASK)) {
            long kept = BitmaskTensor.keptOf(file.tensor(entry.name()));
            if (BitmaskTensor.maskBytes(entry.shape()) + entry.dtype().bytesFor(kept) < entry.bytes()) {
                return new Part(entry, kept);
            }
        }
        return new Part(entry, -1);
    }

    /** Values and dense tensors come first, the masks behind them, the dense file's header last. */
    private static void write(Safetensors file, List<Part> parts, FileChannel out, MemorySegment chunk)
            throws IOException {
        byte[] header = header(file, parts);
        SafetensorsWriter.writeHeader(out, ByteBuffer.wrap(header));
        long masks = out.position() + parts.stream().mapToLong(Part::bytes).sum();
        for (Part part : parts) {
            String name = part.dense.name();
            if (!part.packed()) {
                SafetensorsWriter.copy(file.tensor(name).data(), 0, part.bytes(), chunk, out);
                continue;
            }
            try (Arena one = Arena.ofConfined()) {
                BitmaskTensor packed = BitmaskTensor.pack(file.tensor(name), one);
                long next = out.position() + part.bytes();
                SafetensorsWriter.copy(packed.values(), 0, part.bytes(), chunk, out);
                out.position(masks);
                SafetensorsWriter.copy(packed.mask(), 0, packed.mask().byteSize(), chunk, out);
                masks = out.position();
                out.position(next);
            }
        }
        out.position(masks);
        SafetensorsWriter.writeFully(out, ByteBuffer.wrap(file.header()));
    }

    private static byte[] header(Safetensors file, List<Part> parts) {
        Map<String, Object> members = new LinkedHashMap<>();
        members.put(Safetensors.METADATA, Map.of("format", FORMAT));
        long end = 0;
        for (Part part : parts) {
            Shape shape = part.packed() ? Shape.of(part.kept) : part.dense.shape();
            end = SafetensorsWriter.addEntry(members, part.dense.name(), part.dense.dtype(), shape, end);
        }
        for (Part part : parts) {
            if (part.packed()) {
                Shape shape = maskShape(part.dense.shape());
                end = SafetensorsWriter.addEntry(members, part.dense.name() + MASK, DType.U8, shape, end);
            }
        }
        SafetensorsWriter.addEntry(members, DENSE_HEADER, DType.U8, Shape.of(file.header().length), end);
        return SafetensorsWriter.padded(Json.text(members).getBytes(StandardCharsets.UTF_8));
    }
}

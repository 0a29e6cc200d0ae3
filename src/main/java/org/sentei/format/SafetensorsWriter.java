package org.sentei.format;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** Writes tensors into a new safetensors file. */
public final class SafetensorsWriter {
    static final int CHUNK_BYTES = 1 << 20;

    private static final int ALIGNMENT = 8;

    private SafetensorsWriter() {}

    /**
     * Writes a file that appears complete or not at all.
     *
     * @param tensors with names of their own
     * @throws IOException when it cannot be written
     */
    public static void write(Path target, List<Tensor> tensors) throws IOException {
        Map<String, Object> header = new LinkedHashMap<>();
        long offset = 0;
        for (Tensor tensor : tensors) {
            if (header.containsKey(tensor.name())) {
                throw new IllegalArgumentException("two tensors are called " + tensor.name());
            }
            offset = addEntry(header, tensor.name(), tensor.dtype(), tensor.shape(), offset);
        }
        byte[] padded = padded(Json.text(header).getBytes(StandardCharsets.UTF_8));
        try (PendingFile pending = new PendingFile(target);
                Arena arena = Arena.ofConfined()) {
            MemorySegment chunk = arena.allocate(CHUNK_BYTES);
            FileChannel channel = pending.channel();
            writeHeader(channel, ByteBuffer.wrap(padded));
            for (Tensor tensor : tensors) {
                copy(tensor.data(), 0, tensor.data().byteSize(), chunk, channel);
            }
            pending.force();
            pending.publish();
        }
    }

    /**
     * Adds a tensor to a header.
     *
     * @return where its data end
     */
    static long addEntry(Map<String, Object> header, String name, DType dtype, Shape shape, long begin) {
        long end = begin + dtype.bytesFor(shape.elements());
        Map<String, Object> entry = new LinkedHashMap<>();
        entry.put("dtype", dtype.name());
        entry.put("shape", shape.toArray());
        entry.put("data_offsets", List.of(begin, end));
        header.put(name, entry);
        return end;
    }

    /** The header's length and the header: how every file begins. */
    static void writeHeader(FileChannel channel, ByteBuffer header) throws IOException {
        ByteBuffer length = ByteBuffer.allocate(Long.BYTES).order(ByteOrder.LITTLE_ENDIAN);
        writeFully(channel, length.putLong(header.remaining()).flip());
        writeFully(channel, header);
    }

    /** The header with as many spaces behind it as the data's alignment asks for. */
    static byte[] padded(byte[] json) {
        byte[] padded = Arrays.copyOf(json, json.length + Math.floorMod(-json.length, ALIGNMENT));
        Arrays.fill(padded, json.length, padded.length, (byte) ' ');
        return padded;
    }

    /** Appends bytes of a segment by way of a native one, since a heap segment need not be an array of bytes. */
    static void copy(MemorySegment data, long begin, long end, MemorySegment chunk, FileChannel out)
            throws IOException {
        for (long at = begin; at < end; at += chunk.byteSize()) {
            long bytes = Math.min(chunk.byteSize(), end - at);
            writeFully(
                    out,
                    chunk.asSlice(0, bytes).copyFrom(data.asSlice(at, bytes)).asByteBuffer());
        }
    }

    static void writeFully(FileChannel channel, ByteBuffer bytes) throws IOException {
        while (bytes.hasRemaining()) {
            channel.write(bytes);
        }
    }
}

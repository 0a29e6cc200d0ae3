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
            long end = offset + tensor.data().byteSize();
            Map<String, Object> entry = new LinkedHashMap<>();
            entry.put("dtype", tensor.dtype().name());
            entry.put("shape", tensor.shape().toArray());
            entry.put("data_offsets", List.of(offset, end));
            if (header.put(tensor.name(), entry) != null) {
                throw new IllegalArgumentException("two tensors are called " + tensor.name());
            }
            offset = end;
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

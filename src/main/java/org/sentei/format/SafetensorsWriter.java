package org.sentei.format;

import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.sentei.tensor.Tensor;

/** Writes tensors into a new safetensors file. */
public final class SafetensorsWriter {
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
        byte[] json = new JsonMapper().writeValueAsBytes(header);
        byte[] padded = Arrays.copyOf(json, (json.length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
        Arrays.fill(padded, json.length, padded.length, (byte) ' ');
        try (PendingFile pending = new PendingFile(target)) {
            FileChannel channel = pending.channel();
            ByteBuffer length = ByteBuffer.allocate(Long.BYTES).order(ByteOrder.LITTLE_ENDIAN);
            writeAll(channel, length.putLong(padded.length).flip());
            writeAll(channel, ByteBuffer.wrap(padded));
            for (Tensor tensor : tensors) {
                for (long at = 0; at < tensor.data().byteSize(); at += Integer.MAX_VALUE) {
                    long size = Math.min(Integer.MAX_VALUE, tensor.data().byteSize() - at);
                    writeAll(channel, tensor.data().asSlice(at, size).asByteBuffer());
                }
            }
            pending.force();
            pending.publish();
        }
    }

    private static void writeAll(FileChannel channel, ByteBuffer bytes) throws IOException {
        while (bytes.hasRemaining()) {
            channel.write(bytes);
        }
    }
}

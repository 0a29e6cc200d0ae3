package org.sentei.format;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * A safetensors file of ours: tensors, then {@code about}, a JSON record that says what they are, then {@code sha256}, the
 * hash of all that. It gets its name when it is complete and on the disk.
 *
 * @param about what the record says
 */
public record SealedFile<T extends Record>(Safetensors tensors, T about) {
    private static final String ABOUT = "about";
    private static final String HASH = "sha256";

    private static final ObjectMapper MAPPER = JsonMapper.builder(JsonFactory.builder()
                    .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
                    .build())
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .enable(DeserializationFeature.FAIL_ON_NULL_FOR_PRIMITIVES)
            .enable(DeserializationFeature.FAIL_ON_MISSING_CREATOR_PROPERTIES)
            .build();

    /**
     * Writes a file that appears complete or not at all.
     *
     * @param tensors with names of their own, other than those two
     */
    public static void write(Path file, List<Tensor> tensors, Record about) throws IOException {
        List<Tensor> all = new ArrayList<>(tensors);
        all.add(bytes(ABOUT, MAPPER.writeValueAsBytes(about)));
        all.add(bytes(HASH, hash(all)));
        SafetensorsWriter.write(file, all);
    }

    /**
     * Maps a file; its tensors are valid while the arena lives.
     *
     * @throws FormatException when it is missing or no such file
     * @throws IllegalArgumentException when it has not the hash that it says, or the record refuses its content
     * @throws IOException when the record is no JSON of this form
     */
    public static <T extends Record> SealedFile<T> map(Path file, Class<T> about, Arena arena) throws IOException {
        Safetensors tensors = Safetensors.map(file, arena);
        List<Tensor> hashed = tensors.names().stream()
                .filter(name -> !name.equals(HASH))
                .map(tensors::tensor)
                .toList();
        if (!Arrays.equals(hash(hashed), content(tensors, HASH))) {
            throw new IllegalArgumentException("it has not the hash that it says");
        }
        T said = MAPPER.readValue(content(tensors, ABOUT), about);
        if (said == null) {
            throw new IllegalArgumentException("it does not say what it is about");
        }
        return new SealedFile<>(tensors, said);
    }

    private static Tensor bytes(String name, byte[] content) {
        return new Tensor(name, DType.U8, Shape.of(content.length), MemorySegment.ofArray(content));
    }

    private static byte[] content(Safetensors tensors, String name) {
        MemorySegment data = tensors.tensor(name).data();
        if (data.byteSize() > Integer.MAX_VALUE - 8) {
            throw new IllegalArgumentException(name + " has " + data.byteSize() + " bytes");
        }
        return data.toArray(ValueLayout.JAVA_BYTE);
    }

    private static byte[] hash(List<Tensor> tensors) {
        Sha256 hash = new Sha256();
        for (Tensor tensor : tensors) {
            hash.add(tensor.name().getBytes(StandardCharsets.UTF_8)).add(tensor.data());
        }
        return hash.hex().getBytes(StandardCharsets.US_ASCII);
    }
}

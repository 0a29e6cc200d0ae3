package org.sentei.model;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.UnaryOperator;
import org.sentei.format.HuggingFaceFolder;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** The small models of the test resources. */
public final class Fixtures {
    static final Path MODELS = Path.of("src/test/resources/models");
    static final ObjectMapper JSON = new ObjectMapper();

    private Fixtures() {}

    /** A fixture's config.json, free to be changed. */
    static Map<String, Object> config(String fixture) {
        try {
            return JSON.readValue(MODELS.resolve(fixture, "config.json").toFile(), new TypeReference<>() {});
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** A fixture whose settings and tensors can be replaced before the model is made. */
    public static final class Changed implements TensorSource, AutoCloseable {
        private final HuggingFaceFolder folder;
        private final Map<String, Object> settings;
        private final Map<String, Tensor> tensors = new LinkedHashMap<>();

        public Changed(String fixture) {
            folder = HuggingFaceFolder.open(MODELS.resolve(fixture));
            settings = new HashMap<>(config(fixture));
            folder.names().forEach(name -> tensors.put(name, folder.tensor(name)));
        }

        public Changed set(String key, Object value) {
            settings.put(key, value);
            return this;
        }

        public Changed put(String name, DType dtype, byte[] data, long... dimensions) {
            tensors.put(name, new Tensor(name, dtype, Shape.of(dimensions), MemorySegment.ofArray(data)));
            return this;
        }

        public Changed remove(String name) {
            tensors.remove(name);
            return this;
        }

        public Changed rename(UnaryOperator<String> change) {
            Map<String, Tensor> renamed = new LinkedHashMap<>();
            tensors.forEach((name, tensor) -> renamed.put(
                    change.apply(name), new Tensor(change.apply(name), tensor.dtype(), tensor.shape(), tensor.data())));
            tensors.clear();
            tensors.putAll(renamed);
            return this;
        }

        public Transformer model() {
            return Transformer.of(new ModelConfig("config.json", settings), this);
        }

        @Override
        public Collection<String> names() {
            return tensors.keySet();
        }

        @Override
        public boolean contains(String name) {
            return tensors.containsKey(name);
        }

        @Override
        public Tensor tensor(String name) {
            if (!contains(name)) {
                throw new ModelException("the model has no tensor " + name);
            }
            return tensors.get(name);
        }

        @Override
        public void close() {
            folder.close();
        }
    }
}

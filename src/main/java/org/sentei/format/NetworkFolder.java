package org.sentei.format;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import org.sentei.model.GraphNetwork;
import org.sentei.model.ModelException;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * A trained graph network as a folder: {@code config.json} says the architecture and its sizes, {@code model.safetensors} holds
 * the parameters under their names, all F32. {@code model.onnx} may be beside them, the same for
 * other tools; it is not read here.
 */
public final class NetworkFolder {
    private static final String CONFIG = "config.json";
    private static final String WEIGHTS = "model.safetensors";
    private static final String ONNX = "model.onnx";
    private static final String ARCHITECTURE = "architecture";
    private static final int LARGEST_CONFIG = 1 << 16;

    private NetworkFolder() {}

    /**
     * What a folder holds.
     *
     * @param parameters in the network's order, each packed row by row
     */
    public record Content(GraphNetwork network, List<float[]> parameters) {
        public Content {
            parameters = List.copyOf(parameters);
        }
    }

    /** Whether a folder's configuration is that of a graph network. */
    public static boolean isOne(Path folder) {
        Path config = folder.resolve(CONFIG);
        try {
            return Files.isRegularFile(config)
                    && Json.object(Json.bytes(config, LARGEST_CONFIG), config).get(ARCHITECTURE) instanceof String;
        } catch (FormatException other) {
            return false;
        }
    }

    /**
     * Writes configuration and parameters into a folder.
     *
     * @param storage of pruned matrices
     */
    public static void write(Path folder, GraphNetwork network, List<float[]> parameters, Storage storage)
            throws IOException {
        List<Tensor> tensors = new ArrayList<>();
        for (int i = 0; i < parameters.size(); i++) {
            GraphNetwork.Parameter parameter = network.parameters().get(i);
            tensors.add(new Tensor(
                    parameter.name(), DType.F32, shape(parameter), MemorySegment.ofArray(parameters.get(i))));
        }
        Path weights = folder.resolve(WEIGHTS);
        SafetensorsWriter.write(weights, tensors);
        if (storage == Storage.BITMASK) {
            Path packed = folder.resolve(WEIGHTS + ".packed");
            if (BitmaskFile.pack(weights, packed)) {
                Files.delete(weights);
                Files.move(packed, weights);
            }
        }
        Map<String, Object> config = new LinkedHashMap<>();
        config.put(ARCHITECTURE, network.architecture());
        config.putAll(network.sizes());
        PendingFile.write(folder.resolve(CONFIG), Json.text(config) + "\n");
    }

    /** Writes the network beside them as an ONNX graph, for other tools. */
    public static void export(Path folder, GraphNetwork network, List<float[]> parameters) throws IOException {
        Files.write(folder.resolve(ONNX), NetworkOnnx.of(network, parameters).toByteArray());
    }

    /**
     * Reads a folder.
     *
     * @throws FormatException when a file is missing or damaged, or the parameters are not those of the network
     */
    public static Content read(Path folder) {
        Path config = folder.resolve(CONFIG);
        GraphNetwork network = network(config, Json.object(Json.bytes(config, LARGEST_CONFIG), config));
        List<GraphNetwork.Parameter> parameters = fitting(config, network::parameters);
        try (Arena arena = Arena.ofConfined()) {
            Safetensors file = Safetensors.map(folder.resolve(WEIGHTS), arena);
            for (GraphNetwork.Parameter parameter : parameters) {
                Tensor tensor = file.tensor(parameter.name());
                if (tensor.dtype() != DType.F32 || !tensor.shape().equals(shape(parameter))) {
                    throw new FormatException(file.file() + ": tensor " + parameter.name() + " is " + tensor.dtype()
                            + " " + tensor.shape() + ", but " + config + " asks for F32 " + shape(parameter)
                            + "; the two do not belong together");
                }
            }
            if (file.names().size() != parameters.size()) {
                throw new FormatException(file.file() + " has " + file.names().size() + " tensors, but " + config
                        + " asks for " + parameters.size() + "; the two do not belong together");
            }
            return new Content(
                    network,
                    parameters.stream()
                            .map(parameter -> Floats.toArray(file.tensor(parameter.name())))
                            .toList());
        }
    }

    private static GraphNetwork network(Path config, Map<String, Object> values) {
        if (!(values.get(ARCHITECTURE) instanceof String architecture)) {
            throw new FormatException(config + " names no architecture: give a folder that training wrote");
        }
        Map<String, Integer> sizes = new LinkedHashMap<>();
        values.forEach((name, value) -> {
            if (value instanceof Integer size) {
                sizes.put(name, size);
            }
        });
        return fitting(config, () -> GraphNetwork.of(architecture, sizes));
    }

    private static <T> T fitting(Path config, Supplier<T> made) {
        try {
            return made.get();
        } catch (ModelException wrong) {
            throw new FormatException(config + ": " + wrong.getMessage(), wrong);
        }
    }

    private static Shape shape(GraphNetwork.Parameter parameter) {
        return Shape.of(parameter.rows(), parameter.cols());
    }
}

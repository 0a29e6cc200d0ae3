package org.sentei.format;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.sentei.model.ModelConfig;
import org.sentei.model.ModelException;
import org.sentei.model.TensorSource;
import org.sentei.tensor.BitmaskTensor;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * An open Hugging Face model folder: config.json and the weights, either {@code model.safetensors} or the shards that
 * {@code model.safetensors.index.json} lists.
 *
 * <p>All weight files are mapped and checked when the folder is opened. Tensors in {@linkplain Storage#BITMASK bitmask storage}
 * are shown as the dense ones they stand for, unpacked anew every time. Tensors may be read from any thread and are valid
 * until {@link #close()}.
 */
public final class HuggingFaceFolder implements TensorSource, AutoCloseable {
    static final String CONFIG = "config.json";
    static final String SINGLE = "model.safetensors";
    static final String INDEX = "model.safetensors.index.json";

    private static final int MAX_CONFIG_BYTES = 4 << 20;
    private static final int MAX_INDEX_BYTES = 100_000_000;

    /** File names of weights in formats that are not read here. */
    static final Predicate<String> OTHER_WEIGHTS = Pattern.compile(
                    ".*\\.(bin|pt|pth|ckpt|h5|msgpack|gguf|onnx|onnx_data|safetensors)(\\.index\\.json)?")
            .asMatchPredicate();

    private final Path folder;
    private final ModelConfig config;
    private final Arena arena;
    private final Optional<ShardIndex> index;
    private final SortedMap<String, Safetensors> weights;
    private final Map<String, Safetensors> byTensor;

    private HuggingFaceFolder(
            Path folder,
            ModelConfig config,
            Arena arena,
            Optional<ShardIndex> index,
            SortedMap<String, Safetensors> weights,
            Map<String, Safetensors> byTensor) {
        this.folder = folder;
        this.config = config;
        this.arena = arena;
        this.index = index;
        this.weights = weights;
        this.byTensor = byTensor;
    }

    /**
     * Opens a folder.
     *
     * @throws FormatException when it is no such folder, or a file of it is missing, damaged, or lies outside
     */
    public static HuggingFaceFolder open(Path folder) {
        if (!Files.isDirectory(folder)) {
            throw new FormatException(folder + (Files.exists(folder) ? " is no folder" : " does not exist")
                    + ": give a Hugging Face folder with " + CONFIG + " and " + SINGLE);
        }
        if (!Files.exists(folder.resolve(CONFIG))) {
            throw new FormatException("folder " + folder + " has no " + CONFIG
                    + ": give a Hugging Face folder, which holds it beside " + SINGLE);
        }
        Path configFile = folder.resolve(CONFIG);
        ModelConfig config = new ModelConfig(
                configFile.toString(),
                Collections.unmodifiableMap(Json.object(read(folder, CONFIG, MAX_CONFIG_BYTES), configFile)));
        Arena arena = Arena.ofShared();
        try {
            SortedMap<String, Safetensors> weights = new TreeMap<>();
            Map<String, Safetensors> byTensor;
            Optional<ShardIndex> index = Optional.empty();
            if (Files.exists(folder.resolve(SINGLE))) {
                Safetensors file = Safetensors.map(inside(folder, SINGLE), arena);
                weights.put(SINGLE, file);
                byTensor = new LinkedHashMap<>();
                file.names().forEach(name -> byTensor.put(name, file));
            } else if (Files.exists(folder.resolve(INDEX))) {
                index = Optional.of(ShardIndex.parse(read(folder, INDEX, MAX_INDEX_BYTES), folder.resolve(INDEX)));
                byTensor = openShards(folder, index.get().weightMap(), arena, weights);
            } else {
                throw noWeights(folder);
            }
            return new HuggingFaceFolder(folder, config, arena, index, weights, byTensor);
        } catch (RuntimeException e) {
            arena.close();
            throw e;
        }
    }

    /** The folder as it was given. */
    public Path path() {
        return folder;
    }

    /** What {@code config.json} says. */
    public ModelConfig config() {
        return config;
    }

    /** All names, shard by shard, each in its header's order. */
    @Override
    public Collection<String> names() {
        return Collections.unmodifiableCollection(byTensor.keySet());
    }

    @Override
    public boolean contains(String name) {
        return byTensor.containsKey(name);
    }

    @Override
    public Tensor tensor(String name) {
        return holder(name).tensor(name);
    }

    @Override
    public DType dtype(String name) {
        return holder(name).entry(name).dtype();
    }

    @Override
    public Shape shape(String name) {
        return holder(name).entry(name).shape();
    }

    private Safetensors holder(String name) {
        Safetensors file = byTensor.get(name);
        if (file == null) {
            throw new ModelException("model " + folder + " has no tensor " + name
                    + ": its weights do not belong to its " + CONFIG + ", or it is of another kind");
        }
        return file;
    }

    /** Unmaps the weights; every tensor becomes invalid. */
    @Override
    public void close() {
        if (arena.scope().isAlive()) {
            arena.close();
        }
    }

    /** Weight files by their names in the folder. */
    SortedMap<String, Safetensors> weights() {
        return weights;
    }

    /** The index of a model in shards. */
    Optional<ShardIndex> index() {
        return index;
    }

    /** The bytes of the configuration. */
    byte[] configJson() {
        return read(folder, CONFIG, MAX_CONFIG_BYTES);
    }

    /** The bytes of the index. */
    byte[] indexJson() {
        return read(folder, INDEX, MAX_INDEX_BYTES);
    }

    /** Bytes of the weight files. */
    public long bytes() {
        return weights.values().stream()
                .mapToLong(file -> file.file().toFile().length())
                .sum();
    }

    /** Bytes that the weight files would have if nothing in them were packed. */
    public long denseBytes() {
        return weights.values().stream().mapToLong(Safetensors::denseBytes).sum();
    }

    /**
     * What is in bitmask storage.
     *
     * @param tensors how many, none in a dense folder
     * @param denseBytes what their elements would take
     * @param bytes what their masks and values take
     */
    public record Packed(int tensors, long denseBytes, long bytes) {}

    /** What of the weights is in bitmask storage. */
    public Packed packed() {
        List<BitmaskTensor> packed = weights.values().stream()
                .flatMap(file -> file.packed().stream())
                .toList();
        return new Packed(
                packed.size(),
                packed.stream()
                        .mapToLong(
                                tensor -> tensor.dtype().bytesFor(tensor.shape().elements()))
                        .sum(),
                packed.stream().mapToLong(BitmaskTensor::bytes).sum());
    }

    /** SHA-256, in hexadecimal, of the weight files, one after the other in the order of their names. */
    public String sha256() {
        Sha256 hash = new Sha256();
        weights.values().forEach(file -> hash.add(file.file()));
        return hash.hex();
    }

    /** SHA-256, in hexadecimal, of the configuration. */
    public String configSha256() {
        return new Sha256().add(configJson()).hex();
    }

    /**
     * The real path of a file of the folder.
     *
     * <p>Links may not lead out of the folder, or a hostile one would smuggle a file of the user into the output. The one
     * exception is the hub's download cache, where folders below {@code snapshots} link to {@code blobs} beside it.
     *
     * @throws FormatException when it leads outside or cannot be resolved
     */
    static Path inside(Path folder, String name) {
        try {
            Path root = folder.toRealPath();
            Path file = root.resolve(name).toRealPath();
            if (!file.startsWith(root) && !isBlob(file, root)) {
                throw new FormatException(
                        folder.resolve(name) + " leads out of the folder: replace the link by the file");
            }
            return file;
        } catch (IOException e) {
            throw new FormatException(folder.resolve(name) + " cannot be opened (" + e + ")", e);
        }
    }

    private static boolean isBlob(Path file, Path root) {
        for (Path folder = root; folder != null; folder = folder.getParent()) {
            if (folder.endsWith("snapshots") && file.startsWith(folder.resolveSibling("blobs"))) {
                return true;
            }
        }
        return false;
    }

    /** Maps every shard of the index and returns who holds which tensor. */
    private static Map<String, Safetensors> openShards(
            Path folder, Map<String, String> listed, Arena arena, SortedMap<String, Safetensors> shards) {
        Path index = folder.resolve(INDEX);
        for (String shard : new LinkedHashSet<>(listed.values())) {
            if (!Files.exists(folder.resolve(shard))) {
                throw new FormatException(
                        index + " lists the shard " + shard + ", which is not in the folder: fetch it too");
            }
            shards.put(shard, Safetensors.map(inside(folder, shard), arena));
        }
        listed.forEach((tensor, shard) -> {
            if (!shards.get(shard).contains(tensor)) {
                throw new FormatException(index + " says " + shard + " holds tensor " + tensor
                        + ", but it does not: index and shards do not belong together");
            }
        });
        Map<String, Safetensors> byTensor = new LinkedHashMap<>();
        shards.forEach((shard, file) -> {
            for (String tensor : file.names()) {
                if (!shard.equals(listed.get(tensor))) {
                    throw new FormatException(shard + " of folder " + folder + " holds tensor " + tensor + ", which "
                            + INDEX + " does not list there: index and shards do not belong together");
                }
                byTensor.put(tensor, file);
            }
        });
        return byTensor;
    }

    private static byte[] read(Path folder, String name, int maxBytes) {
        return Json.bytes(inside(folder, name), maxBytes);
    }

    private static FormatException noWeights(Path folder) {
        List<String> others;
        try (Stream<Path> files = Files.list(folder)) {
            others = files.map(file -> file.getFileName().toString())
                    .filter(OTHER_WEIGHTS)
                    .sorted()
                    .limit(5)
                    .toList();
        } catch (IOException e) {
            return new FormatException("folder " + folder + " cannot be read (" + e + "): check its permissions", e);
        }
        String remedy = others.isEmpty()
                ? "fetch the weights too"
                : "it has " + String.join(", ", others)
                        + ": convert it, for example with save_pretrained of transformers";
        return new FormatException("folder " + folder + " has neither " + SINGLE + " nor " + INDEX + "; " + remedy);
    }
}

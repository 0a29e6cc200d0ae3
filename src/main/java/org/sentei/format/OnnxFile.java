package org.sentei.format;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileChannel.MapMode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;
import org.sentei.format.onnx.proto.ModelProto;
import org.sentei.model.AttentionPair;
import org.sentei.model.Edit;
import org.sentei.model.GraphModel;
import org.sentei.model.ModelException;
import org.sentei.model.Site;
import org.sentei.model.TensorSource;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.Tensor;

/**
 * An ONNX model, mapped and checked, with its linear layers, and the way to write it back with edits.
 *
 * <p>The tensors are the initializers and the values of Constant nodes. Memory handed out is valid until {@link #close};
 * nothing is ever written to the file itself. Fields, operators and element types that are not known here travel through
 * unchanged.
 */
public final class OnnxFile implements TensorSource, AutoCloseable {
    private final Path path;
    private final Arena arena;
    private final ModelProto model;
    private final OnnxGraph graph;
    private final OnnxTensors tensors;
    private final Set<String> names;
    private final List<OnnxSites.Found> found;

    private OnnxFile(Path path, MemorySegment content, Arena arena, ModelProto model) {
        this.path = path;
        this.arena = arena;
        this.model = model;
        if (!model.hasGraph() || model.getGraph().getNodeCount() == 0) {
            throw new FormatException(path + ": there is no graph with nodes in it; it is no ONNX model, or damaged");
        }
        this.graph = new OnnxGraph(model.getGraph(), path.toString());
        this.tensors = new OnnxTensors(path, content, arena);
        tensors.mapExternals(model.getGraph());
        graph.constants().forEach(tensors::validate);
        this.names = graph.constants().entrySet().stream()
                .filter(entry ->
                        OnnxTensors.dtype(entry.getValue().getDataType()).isPresent())
                .map(Map.Entry::getKey)
                .collect(Collectors.toCollection(LinkedHashSet::new));
        this.found = new OnnxSites(graph).find();
    }

    /**
     * Maps a model and checks its structure, every constant tensor, and every file it points to.
     *
     * @throws FormatException when the file is missing, damaged, hostile, or larger than one protobuf message can be
     */
    public static OnnxFile open(Path path) {
        if (!Files.isRegularFile(path)) {
            throw new FormatException(path + " is no file; name an ONNX model");
        }
        Arena arena = Arena.ofShared();
        try {
            MemorySegment content = map(path, arena);
            return new OnnxFile(path, content, arena, parse(path, content));
        } catch (OutOfMemoryError e) {
            arena.close();
            throw new FormatException(
                    path + ": its graph does not fit into the Java heap; the file is damaged, or raise -Xmx", e);
        } catch (RuntimeException e) {
            arena.close();
            throw e;
        }
    }

    private static MemorySegment map(Path path, Arena arena) {
        try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
            if (channel.size() > Integer.MAX_VALUE) {
                throw new FormatException(path + " has " + channel.size()
                        + " bytes, but an ONNX file ends at 2 GiB; save the model with external data");
            }
            return channel.map(MapMode.READ_ONLY, 0, channel.size(), arena);
        } catch (IOException e) {
            throw new FormatException(path + " cannot be read: " + e.getMessage() + "; check its permissions", e);
        }
    }

    private static ModelProto parse(Path path, MemorySegment bytes) {
        try {
            return OnnxWire.parse(bytes.asByteBuffer());
        } catch (IOException e) {
            throw new FormatException(
                    path + " is no ONNX model, or truncated (" + e.getMessage() + "); fetch or export it again", e);
        }
    }

    /** The file that was opened. */
    public Path path() {
        return path;
    }

    @Override
    public Collection<String> names() {
        return names;
    }

    @Override
    public boolean contains(String name) {
        return names.contains(name);
    }

    @Override
    public Tensor tensor(String name) {
        if (!names.contains(name)) {
            throw new ModelException(
                    path + " has no constant tensor \"" + name + "\"; it has " + names.size() + " under other names");
        }
        return tensors.tensor(name, graph.constants().get(name));
    }

    /**
     * The linear layers and convolutions in the order they run: every constant weight of Conv, a row for an output channel,
     * whose bias no edit changes, and every matrix of floating numbers that MatMul takes as its second operand,
     * or Gemm without alpha, beta and transA, directly or through Identity, Cast and Transpose.
     *
     * <p>A matrix that several such nodes share is one site, which reads the input of the first of them. A matrix that is
     * used in any other way as well is no site, for pruning it would change more than a linear layer: an embedding tied
     * to the output projection (Gather), a matrix used both as it is and transposed, the left operand of MatMul, one that
     * is an output of the graph or read inside of a nested graph.
     *
     * <p>The name is that of the bias or the weight without its ending ({@code .bias}, {@code .weight}), else the module
     * that the exporter noted, else the node's, else the weight's. The role follows from the name, else from the graph:
     * HEAD for an output of the graph, if need be through an activation or a softmax, DOWN behind an activation,
     * ATTENTION_OUTPUT behind joined heads, OTHER for the rest. {@link Site#input} is the value to tap.
     */
    public List<Site> sites() {
        return found.stream().map(OnnxSites.Found::site).toList();
    }

    /**
     * Sites whose outputs meet in a softmax of attention, in the order they run: those that are split into heads right behind
     * their biases, whose products a constant scales and nothing but a mask of padding is added to.
     */
    public List<AttentionPair> attentions() {
        return new OnnxAttention(graph, found, this::tensor).find();
    }

    /** Whether {@link #write} can give a site another bias, or a first one. */
    public boolean takesBias(Site site) {
        return writer().takesBias(site);
    }

    /**
     * The model with more graph outputs, for running it.
     *
     * @param values names of values of the main graph
     * @param edits carried out as {@link #write} does, but in memory alone
     * @param arena owner of the graph and of the weights that edits change; the others are views of this file
     * @return the model, its large weights marked as external
     * @throws ModelException when the graph has no such value, or for an edit that {@link #write} refuses
     */
    public GraphModel tapped(Collection<String> values, List<Edit> edits, Arena arena) {
        for (String value : values) {
            if (!graph.defines(value)) {
                throw new ModelException(path + ": the graph has no value \"" + value + "\" to tap");
            }
        }
        List<String> added = values.stream()
                .distinct()
                .filter(value -> !graph.isOutput(value))
                .toList();
        return writer().tapped(added, edits, arena);
    }

    /** Elements of all constant tensors of floating numbers; scalars, such as a norm's epsilon, are no parameters. */
    public long parameters() {
        return names.stream()
                .map(this::tensor)
                .filter(tensor -> tensor.dtype().isFloating() && tensor.shape().rank() > 0)
                .mapToLong(tensor -> tensor.shape().elements())
                .sum();
    }

    /** Bytes of the file and of the external data it points to. */
    public long bytes() {
        return files().stream().mapToLong(file -> file.toFile().length()).sum();
    }

    /** SHA-256, in hexadecimal, of the file and the external data it points to, one after the other. */
    public String sha256() {
        Sha256 hash = new Sha256();
        files().forEach(hash::add);
        return hash.hex();
    }

    private List<Path> files() {
        List<Path> files = new ArrayList<>(List.of(path));
        tensors.externalFiles().keySet().forEach(name -> files.add(folder().resolve(name)));
        return files;
    }

    /** The folder that locations of external data are relative to. */
    public Path folder() {
        return tensors.folder();
    }

    /**
     * A file beside the model, such as its tokenizer; empty when there is none.
     *
     * @throws FormatException when it is a link that leads out of the folder
     */
    public Optional<Path> beside(String name) {
        return Files.isRegularFile(folder().resolve(name))
                ? Optional.of(HuggingFaceFolder.inside(folder(), name))
                : Optional.empty();
    }

    /**
     * Writes the model with edits: in the file's own type and orientation pruned weights become zero bits and a new
     * weight takes the place of the others, a new bias goes where the old one was. A bias that other nodes read too is copied
     * first; one where there was none becomes a third input of Gemm, or an Add behind MatMul.
     *
     * <p>Everything else stays field for field. Edited tensors keep their kind of storage, except that values in typed
     * fields (float_data) come out as raw bytes. External data is copied to the same names beside the target. Files
     * appear complete or not at all, the model last.
     *
     * @param target the new file; with external data, in another folder than this one
     * @throws ModelException when an edit is not for a site of this file, or its bias cannot be changed
     * @throws FormatException when external data cannot be kept apart
     * @throws UncheckedIOException when writing fails; the target is as it was
     */
    public void write(Path target, List<Edit> edits) {
        writer().write(target, edits);
    }

    /**
     * The model as a graph of layers. The values of Constant nodes are constants like initializers.
     *
     * @throws FormatException when it holds tensors of a type that is not known here
     * @throws ModelException when its nodes are in no order in which they could run
     */
    public LayerGraph layers() {
        return layersOf().read();
    }

    /**
     * Writes the model with other layers, its weights inside of the one file; what is no part of the graph stays as it is.
     *
     * @param target a new file, which appears complete or not at all
     * @throws FormatException when the weights are too large for that
     * @throws UncheckedIOException when writing fails; the target is as it was
     */
    public void write(Path target, LayerGraph graph) {
        write(target, layersOf(), graph);
    }

    /**
     * Writes a graph that was not read from a file.
     *
     * @param target a new file, which appears complete or not at all
     * @throws FormatException when the weights are too large for one file
     * @throws UncheckedIOException when writing fails; the target is as it was
     */
    public static void create(Path target, LayerGraph graph) {
        write(target, OnnxLayers.empty(target), graph);
    }

    private static void write(Path target, OnnxLayers form, LayerGraph graph) {
        try (PendingFile pending = new PendingFile(target)) {
            OnnxWire.write(form.write(graph), _ -> ByteBuffer.allocate(0), pending.channel());
            pending.force();
            pending.publish();
        } catch (IOException e) {
            throw new UncheckedIOException(
                    target + " cannot be written: " + e.getMessage() + "; check space and permissions", e);
        }
    }

    /**
     * The model with other layers, for running it.
     *
     * @param values names of values that become outputs too
     * @param arena owner of what is no view of this file
     */
    public GraphModel runnable(LayerGraph graph, Collection<String> values, Arena arena) {
        return layersOf().runnable(graph, values, arena);
    }

    private OnnxLayers layersOf() {
        return new OnnxLayers(path, model, tensors);
    }

    private OnnxWriter writer() {
        return new OnnxWriter(path, model, graph, tensors, found);
    }

    @Override
    public void close() {
        if (arena.scope().isAlive()) {
            arena.close();
        }
    }
}

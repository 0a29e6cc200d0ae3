package org.sentei.format;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.IntStream;
import org.sentei.format.OnnxGraph.Reader;
import org.sentei.format.OnnxGraph.Use;
import org.sentei.format.OnnxSites.Bias;
import org.sentei.format.OnnxSites.Found;
import org.sentei.format.OnnxTensors.External;
import org.sentei.format.onnx.proto.AttributeProto;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.format.onnx.proto.ModelProto;
import org.sentei.format.onnx.proto.NodeProto;
import org.sentei.format.onnx.proto.TensorProto;
import org.sentei.format.onnx.proto.ValueInfoProto;
import org.sentei.model.Edit;
import org.sentei.model.GraphModel;
import org.sentei.model.ModelException;
import org.sentei.model.Site;
import org.sentei.tensor.DType;
import org.sentei.tensor.Tensor;

/** Carries out edits on a copy of an ONNX model; {@link OnnxFile#write} is its contract. */
final class OnnxWriter {
    /** Before this version Add did not broadcast by itself. */
    private static final long FIRST_BROADCASTING_OPSET = 7;

    private static final long CHUNK = 1L << 26;
    /** Types of initializers that a graph runtime takes from memory. */
    private static final Set<DType> WEIGHT_TYPES = Set.of(DType.F32, DType.F64, DType.F16, DType.BF16);

    private final Path source;
    private final ModelProto model;
    private final OnnxGraph graph;
    private final OnnxTensors tensors;
    private final Map<String, Found> found = new LinkedHashMap<>();

    private final Map<String, Integer> initializers = new HashMap<>();
    private final Set<String> fresh = new HashSet<>();
    /** New nodes by the index of the node they follow. */
    private final Map<Integer, NodeProto> added = new HashMap<>();
    /** New bytes of external tensors, with where they go. */
    private final Map<External, MemorySegment> moved = new LinkedHashMap<>();

    OnnxWriter(Path source, ModelProto model, OnnxGraph graph, OnnxTensors tensors, List<Found> found) {
        this.source = source;
        this.model = model;
        this.graph = graph;
        this.tensors = tensors;
        found.forEach(site -> this.found.put(site.site().name(), site));
        GraphProto proto = model.getGraph();
        for (int i = 0; i < proto.getInitializerCount(); i++) {
            initializers.put(proto.getInitializer(i).getName(), i);
        }
    }

    void write(Path target, List<Edit> edits) {
        try (Arena scratch = Arena.ofConfined()) {
            ModelProto edited = edited(edits, scratch);
            checkExternals(target);
            store(target, edited);
        } catch (IOException e) {
            throw new UncheckedIOException(
                    target + " cannot be written: " + e.getMessage() + "; check space and permissions", e);
        }
    }

    /** As {@link OnnxFile#tapped}; the outputs are new ones. */
    GraphModel tapped(List<String> outputs, List<Edit> edits, Arena arena) {
        ModelProto.Builder model = edited(edits, arena).toBuilder();
        GraphProto.Builder tapped = model.getGraphBuilder();
        outputs.forEach(output -> tapped.addOutput(ValueInfoProto.newBuilder().setName(output)));
        List<Tensor> weights = new ArrayList<>();
        Set<External> changed = new HashSet<>(moved.keySet());
        for (int i = 0; i < tapped.getInitializerCount(); i++) {
            TensorProto tensor = tapped.getInitializer(i);
            if (!OnnxTensors.isExternal(tensor)) {
                continue;
            }
            MemorySegment bytes = content(tensor);
            Optional<DType> dtype = OnnxTensors.dtype(tensor.getDataType()).filter(WEIGHT_TYPES::contains);
            if (dtype.isPresent() && bytes.byteSize() <= Integer.MAX_VALUE) {
                changed.remove(tensors.external(tensor));
                MemorySegment outside =
                        bytes.isNative() ? bytes : arena.allocateFrom(JAVA_BYTE, bytes, JAVA_BYTE, 0, bytes.byteSize());
                weights.add(
                        new Tensor(tensor.getName(), dtype.get(), tensors.shape(tensor.getName(), tensor), outside));
            } else if (OnnxWire.isLarge(tensor)) {
                tapped.setInitializer(
                        i, OnnxWire.withoutLocation(tensor).setRawData(ByteString.copyFrom(bytes.asByteBuffer())));
            }
        }
        if (!changed.isEmpty()) {
            throw new ModelException(
                    source + ": a weight in " + changed.iterator().next().location()
                            + " cannot be changed in memory, it is no initializer or larger than 2 GiB;"
                            + " calibrate without sequential, or save the model with its weights inside");
        }
        return new GraphModel(
                source.toString(),
                arena.allocateFrom(JAVA_BYTE, model.build().toByteArray()),
                weights,
                tensors.folder());
    }

    /** The bytes of an external tensor, new where an edit changed them. */
    private MemorySegment content(TensorProto tensor) {
        MemorySegment edited = moved.get(tensors.external(tensor));
        return edited == null ? tensors.content(tensor) : edited;
    }

    /**
     * The edited model; new bytes of external tensors go to {@link #moved}.
     *
     * @param scratch owner of the edited bytes
     */
    private ModelProto edited(List<Edit> edits, Arena scratch) {
        ModelProto.Builder copy = model.toBuilder();
        GraphProto.Builder edited = copy.getGraphBuilder();
        Set<String> done = new HashSet<>();
        for (Edit edit : edits) {
            Found site = found.get(edit.site().name());
            if (site == null || !site.site().equals(edit.site())) {
                throw new ModelException(source + ": site " + edit.site().name()
                        + " of an edit is none of this model; take the sites from this file");
            }
            if (!done.add(edit.site().name())) {
                throw new ModelException(
                        source + ": two edits for site " + edit.site().name() + "; merge them into one");
            }
            replaceWeight(edited, edit, scratch);
            if (edit.bias() != null) {
                replaceBias(edited, site, edit);
            }
        }
        insertNodes(edited);
        return copy.build();
    }

    /** Whether a site has a bias that can change, or can get one. */
    boolean takesBias(Site site) {
        Found known = found.get(site.name());
        return known != null
                && known.site().equals(site)
                && known.biasEditable()
                && (site.bias() != null || isGemm(known.nodes().getFirst()) || broadcasts());
    }

    private boolean isGemm(int node) {
        return graph.node(node).getOpType().equals("Gemm");
    }

    private boolean broadcasts() {
        return model.getOpsetImportList().stream()
                .anyMatch(opset ->
                        (opset.getDomain().isEmpty() || opset.getDomain().equals("ai.onnx"))
                                && opset.getVersion() >= FIRST_BROADCASTING_OPSET);
    }

    private void replaceWeight(GraphProto.Builder edited, Edit edit, Arena scratch) {
        Site site = edit.site();
        if (edit.weight() == null && edit.pruned().count() == 0) {
            return;
        }
        Tensor weight = tensors.tensor(site.weight(), graph.constants().get(site.weight()));
        MemorySegment bytes = scratch.allocateFrom(
                JAVA_BYTE, weight.data(), JAVA_BYTE, 0, weight.data().byteSize());
        edit.applyTo(weight.dtype(), 0, bytes);
        replace(edited, site.weight(), bytes);
    }

    private void replaceBias(GraphProto.Builder edited, Found found, Edit edit) {
        if (!found.biasEditable()) {
            throw new ModelException(source + ": site " + found.site().name()
                    + " has a computed bias, or shares its weight between layers with different ones;"
                    + " leave its bias out of the edit (bias: off)");
        }
        Bias first = found.biases().getFirst();
        if (first.tensor() != null && isOwn(found, first.tensor())) {
            DType stored = OnnxTensors.dtype(
                            graph.constants().get(first.tensor()).getDataType())
                    .orElseThrow();
            replace(edited, first.tensor(), edit.biasAs(stored).data());
            return;
        }
        String name =
                fresh(first.tensor() == null ? edit.bias().name() : found.site().name() + ".bias");
        int dataType = first.tensor() == null ? found.dataType() : first.dataType();
        MemorySegment bytes =
                edit.biasAs(OnnxTensors.dtype(dataType).orElseThrow()).data();
        initializers.put(name, edited.getInitializerCount());
        edited.addInitializer(TensorProto.newBuilder()
                .setName(name)
                .setDataType(dataType)
                .addDims(found.site().rows())
                .setRawData(UnsafeByteOperations.unsafeWrap(bytes.asByteBuffer())));
        for (int i = 0; i < found.nodes().size(); i++) {
            Bias old = found.biases().get(i);
            if (old.tensor() != null) {
                edited.getNodeBuilder(old.node()).setInput(old.input(), name);
            } else {
                addBias(edited, found.nodes().get(i), name);
            }
        }
    }

    /** Whether only this site reads the tensor, so that changing it changes nothing else. */
    private boolean isOwn(Found found, String tensor) {
        List<Use> uses = graph.uses(tensor);
        return uses != null
                && uses.stream()
                        .allMatch(use -> found.biases().stream()
                                .anyMatch(bias -> use.reader().equals(new Reader(bias.node(), bias.input()))));
    }

    private void addBias(GraphProto.Builder edited, int index, String bias) {
        NodeProto.Builder node = edited.getNodeBuilder(index);
        if (isGemm(index)) {
            if (node.getInputCount() == 3) {
                node.setInput(2, bias);
            } else {
                node.addInput(bias);
            }
            return;
        }
        if (!broadcasts()) {
            throw new ModelException(source + ": operator set before " + FIRST_BROADCASTING_OPSET
                    + " cannot add a bias where there is none; convert the model or leave the bias out (bias: off)");
        }
        String output = node.getOutput(0);
        String inner = fresh(output + "_without_bias");
        node.setOutput(0, inner);
        added.put(
                index,
                NodeProto.newBuilder()
                        .setOpType("Add")
                        .setName(node.getName().isEmpty() ? "" : node.getName() + "_bias")
                        .addInput(inner)
                        .addInput(bias)
                        .addOutput(output)
                        .build());
    }

    private String fresh(String wanted) {
        String name = wanted;
        for (int i = 2; graph.defines(name) || !fresh.add(name); i++) {
            name = wanted + "_" + i;
        }
        return name;
    }

    private void insertNodes(GraphProto.Builder edited) {
        if (added.isEmpty()) {
            return;
        }
        List<NodeProto> nodes = new ArrayList<>();
        for (int n = 0; n < edited.getNodeCount(); n++) {
            nodes.add(edited.getNode(n));
            if (added.containsKey(n)) {
                nodes.add(added.get(n));
            }
        }
        edited.clearNode().addAllNode(nodes);
    }

    private void replace(GraphProto.Builder edited, String constant, MemorySegment bytes) {
        TensorProto old = graph.constants().get(constant);
        if (OnnxTensors.isExternal(old)) {
            if (old.getExternalDataList().stream()
                    .anyMatch(entry -> entry.getKey().equals("checksum"))) {
                throw new FormatException(source + ": tensor \"" + constant
                        + "\" carries a checksum of its external file, which an edit would falsify;"
                        + " save the model without checksums");
            }
            External range = tensors.external(old);
            moved.put(new External(range.location(), range.offset(), bytes.byteSize()), bytes);
            return;
        }
        TensorProto changed = old.toBuilder()
                .clearFloatData()
                .clearDoubleData()
                .clearInt32Data()
                .setRawData(UnsafeByteOperations.unsafeWrap(bytes.asByteBuffer()))
                .build();
        Integer initializer = initializers.get(constant);
        if (initializer != null) {
            edited.setInitializer(initializer, changed);
            return;
        }
        NodeProto.Builder node = edited.getNodeBuilder(graph.producerIndex(constant));
        int value = IntStream.range(0, node.getAttributeCount())
                .filter(i -> node.getAttribute(i).getName().equals("value"))
                .findFirst()
                .orElseThrow();
        AttributeProto attribute = node.getAttribute(value);
        node.setAttribute(value, attribute.toBuilder().setT(changed));
    }

    /** External files are rewritten as a whole under their own names, so edited ranges must be apart and the folder another. */
    private void checkExternals(Path target) throws IOException {
        if (tensors.externalFiles().isEmpty()) {
            return;
        }
        Path folder = target.toAbsolutePath().normalize().getParent();
        for (String name : tensors.externalFiles().keySet()) {
            Path copy = folder.resolve(name);
            if (copy.equals(target.toAbsolutePath().normalize())) {
                throw new FormatException(
                        target + " has the name of a weights file of " + source + "; write to another name");
            }
            if (Files.exists(copy) && isExternal(copy)) {
                throw new FormatException(target + " would overwrite the weights file " + copy + " of " + source
                        + "; write to another folder");
            }
        }
        List<External> ranges = new ArrayList<>();
        for (TensorProto tensor : OnnxTensors.all(model.getGraph())) {
            if (OnnxTensors.isExternal(tensor)) {
                ranges.add(tensors.external(tensor));
            }
        }
        for (External edited : moved.keySet()) {
            long sharing = ranges.stream()
                    .filter(other -> other.location().equals(edited.location())
                            && other.offset() < edited.offset() + edited.bytes()
                            && edited.offset() < other.offset() + other.bytes())
                    .count();
            if (sharing != 1) {
                throw new FormatException(source + ": several tensors share bytes of " + edited.location()
                        + " at offset " + edited.offset() + "; save the model with every tensor apart");
            }
        }
    }

    private boolean isExternal(Path file) throws IOException {
        for (String name : tensors.externalFiles().keySet()) {
            if (Files.isSameFile(file, tensors.folder().resolve(name))) {
                return true;
            }
        }
        return false;
    }

    private void store(Path target, ModelProto edited) throws IOException {
        List<PendingFile> pending = new ArrayList<>();
        try {
            Path folder = target.toAbsolutePath().getParent();
            for (Map.Entry<String, MemorySegment> file : tensors.externalFiles().entrySet()) {
                PendingFile copy = new PendingFile(folder.resolve(file.getKey()));
                pending.add(copy);
                copyExternal(file.getKey(), file.getValue(), copy.channel());
            }
            PendingFile main = new PendingFile(target);
            pending.add(main);
            OnnxWire.write(edited, tensor -> content(tensor).asByteBuffer(), main.channel());
            for (PendingFile file : pending) {
                file.force();
            }
            for (PendingFile file : pending) {
                file.publish();
            }
        } finally {
            for (PendingFile file : pending) {
                file.close();
            }
        }
    }

    private void copyExternal(String location, MemorySegment content, FileChannel channel) throws IOException {
        writeAt(channel, 0, content);
        for (Map.Entry<External, MemorySegment> edited : moved.entrySet()) {
            if (edited.getKey().location().equals(location)) {
                writeAt(channel, edited.getKey().offset(), edited.getValue());
            }
        }
    }

    private static void writeAt(FileChannel channel, long offset, MemorySegment bytes) throws IOException {
        for (long done = 0; done < bytes.byteSize(); ) {
            long chunk = Math.min(CHUNK, bytes.byteSize() - done);
            done += channel.write(bytes.asSlice(done, chunk).asByteBuffer(), offset + done);
        }
    }
}

package org.sentei.model.graph;

import java.lang.foreign.MemorySegment;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.Set;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import org.sentei.model.ModelException;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * An immutable graph of layers in the order they run. Every value has one producer: a layer, an input of the graph, or a
 * constant. What changes a graph makes another one by {@link #edit}.
 */
public final class LayerGraph {
    private final String name;
    private final long opset;
    private final List<Port> inputs;
    private final List<Port> outputs;
    private final List<Layer> layers;
    private final Map<String, Tensor> constants;
    private final Map<String, Layer> producers = new HashMap<>();
    private final Map<String, List<Layer>> readers = new HashMap<>();
    private final Set<String> outputNames = new HashSet<>();

    /**
     * A named input or output.
     *
     * @param dtype null where it is no tensor of a type we know
     * @param dimensions empty where a size is free, or the rank unknown
     */
    public record Port(String name, DType dtype, List<OptionalLong> dimensions) {
        /** Copies the list. */
        public Port {
            dimensions = List.copyOf(dimensions);
        }
    }

    /**
     * Checks that every value is made once, and before it is read.
     *
     * @param name what messages call it, usually its path
     * @param opset version of ONNX's own operators
     * @throws ModelException when the layers are in no order in which they could run
     */
    public LayerGraph(
            String name,
            long opset,
            List<Port> inputs,
            List<Port> outputs,
            List<Layer> layers,
            Map<String, Tensor> constants) {
        this.name = name;
        this.opset = opset;
        this.inputs = List.copyOf(inputs);
        this.outputs = List.copyOf(outputs);
        this.layers = List.copyOf(layers);
        this.constants = Collections.unmodifiableMap(new LinkedHashMap<>(constants));
        Set<String> known = new HashSet<>(constants.keySet());
        inputs.forEach(input -> known.add(input.name()));
        known.add("");
        Set<String> names = new HashSet<>();
        for (Layer layer : this.layers) {
            if (!names.add(layer.name())) {
                throw new ModelException(name + ": two layers have the name " + layer.name() + "; export it again");
            }
            for (String value : reads(layer).toList()) {
                if (!known.contains(value)) {
                    throw new ModelException(name + ": layer " + layer.name() + " reads " + value
                            + " before anything makes it; export the model again");
                }
                readers.computeIfAbsent(value, _ -> new ArrayList<>()).add(layer);
            }
            for (String value : layer.outputs()) {
                if (!value.isEmpty()) {
                    if (!known.add(value)) {
                        throw new ModelException(name + ": value " + value + " is made twice; export the model again");
                    }
                    producers.put(value, layer);
                }
            }
        }
        for (Port output : this.outputs) {
            if (!known.contains(output.name())) {
                throw new ModelException(
                        name + ": nothing makes its output " + output.name() + "; export the model again");
            }
            outputNames.add(output.name());
        }
    }

    private static Stream<String> reads(Layer layer) {
        return Stream.concat(layer.inputs().stream(), layer.captures().stream());
    }

    /** What messages call it. */
    public String name() {
        return name;
    }

    /** Version of ONNX's own operators. */
    public long opset() {
        return opset;
    }

    /** What is fed. */
    public List<Port> inputs() {
        return inputs;
    }

    /** What it gives. */
    public List<Port> outputs() {
        return outputs;
    }

    /** In an order in which they can run. */
    public List<Layer> layers() {
        return layers;
    }

    /** Tensors by the name of their value. */
    public Map<String, Tensor> constants() {
        return constants;
    }

    /** The layer that makes a value; empty for inputs and constants. */
    public Optional<Layer> producer(String value) {
        return Optional.ofNullable(producers.get(value));
    }

    /** The layers that read a value, one as often as it does. */
    public List<Layer> readers(String value) {
        return Collections.unmodifiableList(readers.getOrDefault(value, List.of()));
    }

    /** The only one who reads a value that is no output of the graph. */
    public Optional<Layer> onlyReader(String value) {
        List<Layer> all = readers(value);
        return all.size() == 1 && !isOutput(value) ? Optional.of(all.getFirst()) : Optional.empty();
    }

    /** Whether a value is an output of the graph. */
    public boolean isOutput(String value) {
        return outputNames.contains(value);
    }

    /** The constant of fp32 numbers behind a value. */
    public Optional<Tensor> weight(String value) {
        return Optional.ofNullable(constants.get(value)).filter(tensor -> tensor.dtype() == DType.F32);
    }

    /** The number that a constant of one element holds. */
    public Optional<Float> scalar(String value) {
        return weight(value).filter(tensor -> tensor.shape().elements() == 1).map(tensor -> Floats.toArray(tensor)[0]);
    }

    /** The layer of this name. */
    public Optional<Layer> layer(String layer) {
        return layers.stream().filter(known -> known.name().equals(layer)).findFirst();
    }

    /** The part that makes some values, which become its outputs. */
    public LayerGraph upTo(Collection<String> values) {
        List<Port> ends = values.stream()
                .map(value -> outputs.stream()
                        .filter(port -> port.name().equals(value))
                        .findFirst()
                        .orElseGet(() -> new Port(value, null, List.of())))
                .toList();
        return new LayerGraph(name, opset, inputs, ends, needed(values), constants).withoutUnusedConstants();
    }

    private List<Layer> needed(Collection<String> values) {
        Set<String> needed = new HashSet<>();
        Deque<String> open = new ArrayDeque<>(values);
        while (!open.isEmpty()) {
            Layer layer = producers.get(open.remove());
            if (layer != null && needed.add(layer.name())) {
                reads(layer).forEach(open::add);
            }
        }
        return layers.stream().filter(layer -> needed.contains(layer.name())).toList();
    }

    private LayerGraph withoutUnusedConstants() {
        Map<String, Tensor> used = new LinkedHashMap<>(constants);
        used.keySet().removeIf(value -> readers(value).isEmpty() && !isOutput(value));
        return new LayerGraph(name, opset, inputs, outputs, layers, used);
    }

    /** Starts a changed copy. */
    public Editor edit() {
        return new Editor();
    }

    /** A copy in the making; positions of layers stay those of the original until {@link #build}. */
    public final class Editor {
        /** What stands for a layer of the original, by its name. */
        private final Map<String, List<Layer>> replaced = new HashMap<>();

        private final Map<String, Tensor> values = new LinkedHashMap<>(constants);
        private final Map<String, String> renamed = new HashMap<>();
        private final Set<String> taken = new HashSet<>();
        private final List<Layer> first = new ArrayList<>();
        private long version = opset;

        private Editor() {
            taken.addAll(constants.keySet());
            taken.addAll(producers.keySet());
            inputs.forEach(input -> taken.add(input.name()));
            layers.forEach(layer -> taken.add(layer.name()));
        }

        /** A name that neither a value nor a layer has. */
        public String fresh(String wanted) {
            String free = wanted;
            for (int i = 2; !taken.add(free); i++) {
                free = wanted + "_" + i;
            }
            return free;
        }

        /** Puts layers, none as well, where a layer of the original was. */
        public Editor replace(Layer layer, Layer... with) {
            replaced.put(layer.name(), List.of(with));
            return this;
        }

        /** Changes what stands for a layer of the original by now. */
        public Editor change(Layer layer, UnaryOperator<Layer> change) {
            replaced.put(layer.name(), now(layer).stream().map(change).toList());
            return this;
        }

        /** What stands for a layer of the original by now. */
        public List<Layer> now(Layer layer) {
            return replaced.getOrDefault(layer.name(), List.of(layer));
        }

        /** Puts layers behind those that stand for one of the original. */
        public Editor append(Layer layer, List<Layer> behind) {
            replaced.put(
                    layer.name(),
                    Stream.concat(now(layer).stream(), behind.stream()).toList());
            return this;
        }

        /** Puts layers in front of everything. */
        public Editor prepend(List<Layer> layersInFront) {
            first.addAll(layersInFront);
            return this;
        }

        /** Lets everyone who reads a value, and the graph's outputs, read another in its place. */
        public Editor redirect(String value, String to) {
            renamed.put(value, to);
            return this;
        }

        /** Sets a constant. */
        public Editor constant(Tensor tensor) {
            values.put(tensor.name(), tensor);
            return this;
        }

        /** Adds a constant under a free name, which is returned. */
        public String constant(String wanted, DType dtype, Shape shape, MemorySegment data) {
            String free = fresh(wanted);
            values.put(free, new Tensor(free, dtype, shape, data));
            return free;
        }

        /** Sets the version of ONNX's own operators. */
        public Editor opset(long other) {
            version = other;
            return this;
        }

        /**
         * The changed graph, without layers and constants that nothing needs any more.
         *
         * @throws ModelException when an output of the graph would be redirected to a value of another name
         */
        public LayerGraph build() {
            List<Layer> all = new ArrayList<>();
            Stream.concat(first.stream(), layers.stream().flatMap(layer -> now(layer).stream()))
                    .forEach(layer -> all.add(
                            layer.with(layer.inputs().stream().map(this::target).toList(), layer.outputs())));
            for (String value : renamed.keySet()) {
                if (isOutput(value)) {
                    throw new ModelException(name + ": output " + value + " of the graph cannot get another name");
                }
            }
            LayerGraph whole = new LayerGraph(name, version, inputs, outputs, all, values);
            List<String> ends = outputs.stream().map(Port::name).toList();
            return new LayerGraph(name, version, inputs, outputs, whole.needed(ends), values).withoutUnusedConstants();
        }

        private String target(String value) {
            String end = value;
            Set<String> seen = new LinkedHashSet<>();
            while (renamed.containsKey(end) && seen.add(end)) {
                end = renamed.get(end);
            }
            return end;
        }
    }
}

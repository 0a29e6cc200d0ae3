package org.sentei.method.quantize;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.Predicate;
import java.util.stream.Collectors;
import org.sentei.model.ModelException;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.graph.Operation;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * Quantizes a graph to int8 after training, pass after pass: fold, take bounds away, equalize, absorb, smooth; ranges of weights
 * and of activations on the rescaled graph; rounding; correction of biases. What every pass is worth is measured behind it, on samples
 * that nothing was fitted to.
 */
public final class Quantize {
    /** Rounds of equalization that real networks settle in. */
    private static final int ROUNDS = 20;
    /** Samples that mean errors of outputs rest on. */
    private static final int CORRECTING = 128;
    /** Samples that passes are judged by. */
    private static final int JUDGING = 64;

    private final LayerGraph original;
    private final Quantization how;
    private final Predicate<String> targeted;
    private final GraphRunner runner;
    private final Function<LayerGraph, OptionalDouble> score;
    private final Consumer<String> progress;
    private final int fitting;
    private final List<String> notes = new ArrayList<>();
    private final List<Stage> stages = new ArrayList<>();

    /**
     * What the network was worth behind a pass, everything else being rounded by largest magnitudes.
     *
     * @param signalToNoise of the outputs, before a softmax, in decibels; of all samples together
     * @param score what the user measures, for example accuracy
     */
    public record Stage(String pass, double signalToNoise, OptionalDouble score) {}

    /**
     * A layer that computes with integers.
     *
     * @param rows outputs
     * @param cols weights of an output
     * @param zerosBefore exact zeros of the weight that came in
     * @param zerosAfter zeros of the bytes
     * @param signalToNoise of what it gives, in decibels; empty where that is no integer
     */
    public record LayerResult(
            String name,
            String operator,
            long rows,
            long cols,
            long zerosBefore,
            long zerosAfter,
            OptionalDouble signalToNoise) {
        /** Weights of the layer. */
        public long parameters() {
            return rows * cols;
        }
    }

    /**
     * What came out.
     *
     * @param graph with integers, as the form of export has them
     * @param inFloat names and operators of layers that stay in float
     * @param notes what was not done, or done in another way, and why
     */
    public record Result(
            LayerGraph graph, List<LayerResult> layers, List<Stage> stages, List<String> inFloat, List<String> notes) {
        /** Copies the lists. */
        public Result {
            layers = List.copyOf(layers);
            stages = List.copyOf(stages);
            inFloat = List.copyOf(inFloat);
            notes = List.copyOf(notes);
        }
    }

    private Quantize(
            LayerGraph original,
            Quantization how,
            Predicate<String> targeted,
            GraphRunner runner,
            Function<LayerGraph, OptionalDouble> score,
            Consumer<String> progress) {
        this.original = original;
        this.how = how;
        this.targeted = targeted;
        this.runner = runner;
        this.score = score;
        this.progress = progress;
        // A single sample has to do for both.
        this.fitting = Math.max(1, runner.samples() - runner.samples() / 4);
    }

    /**
     * Quantizes a graph.
     *
     * @param targeted which layers with weights may become integers, by name
     * @param runner the calibration samples; the last quarter judges and corrects nothing
     * @param score of a graph, for the stages; empty where there is nothing to score on
     * @param progress hears what is being done
     * @throws ModelException for a version of operators that is not taken, when no layer is left to quantize, when a value is
     *     not finite or its range so small that it has no scale
     */
    public static Result run(
            LayerGraph graph,
            Quantization how,
            Predicate<String> targeted,
            GraphRunner runner,
            Function<LayerGraph, OptionalDouble> score,
            Consumer<String> progress) {
        Opsets.check(graph);
        if (runner.samples() < 1) {
            throw new ModelException(graph.name() + ": there is no calibration sample; give some");
        }
        return new Quantize(graph, how, targeted, runner, score, progress).run();
    }

    private Result run() {
        FloatGraph current = FloatGraph.of(Opsets.raise(original));
        Quantization plain = plain();
        stages.add(new Stage("float", Double.POSITIVE_INFINITY, score.apply(original)));
        double worth = judge("rounded as it is", current, plain);
        if (how.fold()) {
            current = Folding.fold(Activations.recognize(current));
            worth = judge("fold", current, plain);
        }
        current = rescaled(current, worth, plain);
        Quantization weighted =
                with(plain, how.weightRange(), how.weightCorrection(), plain.activationRange(), List.of());
        if (how.weightRange() != Quantization.WeightRange.MAX || how.weightCorrection()) {
            judge("weight ranges", current, weighted);
        }
        Quantization ranged =
                with(plain, how.weightRange(), how.weightCorrection(), how.activationRange(), how.unify());
        QuantizedModel model = rounded(current, ranged);
        if (how.activationRange() != Quantization.ActivationRange.MINMAX
                || !how.unify().isEmpty()) {
            judge("activation ranges", model);
        }
        if (how.biasCorrection() != Quantization.BiasCorrection.OFF) {
            progress.accept("bias correction");
            model = how.biasCorrection() == Quantization.BiasCorrection.ANALYTIC
                    ? analytic(model, current)
                    : empirical(model);
            judge("bias correction, " + how.biasCorrection().name().toLowerCase(Locale.ROOT), model);
        }
        return result(model);
    }

    /**
     * Passes that give channels other scales, each where it helps.
     *
     * @param worth of the folded graph
     */
    private FloatGraph rescaled(FloatGraph folded, double worth, Quantization plain) {
        Rescaling best = new Rescaling(folded, worth);
        // Bounds go for the sake of equalization: they stay or go together.
        FloatGraph unbound = how.relu6() ? Activations.unbound(folded) : folded;
        if (how.relu6()) {
            Rescaling after = new Rescaling(unbound, judge("relu6", unbound, plain));
            best = how.equalize() ? best : better(best, "relu6", after);
        }
        if (how.equalize()) {
            FloatGraph equal = Equalization.equalize(unbound, ROUNDS);
            best = better(best, "relu6 and equalize", new Rescaling(equal, judge("equalize", equal, plain)));
        }
        if (how.absorb()) {
            FloatGraph absorbed = Equalization.absorb(best.graph());
            best = better(best, "absorb", new Rescaling(absorbed, judge("absorb", absorbed, plain)));
        }
        if (how.smooth() != Quantization.Smooth.OFF && how.weights() == Quantization.Weights.CHANNEL) {
            LayerGraph graph = best.graph().graph();
            Smoothing smoothing = new Smoothing(how.smooth() == Quantization.Smooth.INSERTED);
            FloatGraph smooth = smoothing.smooth(best.graph(), channelRanges(graph, smoothing.values(graph)));
            best = better(best, "smooth", new Rescaling(smooth, judge("smooth", smooth, plain)));
        }
        return best.graph();
    }

    /**
     * A graph among several.
     *
     * @param worth signal to noise of its outputs
     */
    private record Rescaling(FloatGraph graph, double worth) {}

    private Rescaling better(Rescaling before, String what, Rescaling after) {
        if (how.keep() == Quantization.Keep.ALL || after.worth() >= before.worth()) {
            return after;
        }
        notes.add(String.format(
                Locale.ROOT,
                "%s left out: the outputs' signal to noise on held-out samples would go from %.2f to %.2f dB%s",
                what,
                before.worth(),
                after.worth(),
                how.biasCorrection() == Quantization.BiasCorrection.OFF
                        ? ""
                        : ", what all samples have in common aside"));
        return before;
    }

    private Map<String, ChannelRanges> channelRanges(LayerGraph graph, Map<String, Boolean> values) {
        Map<String, ChannelRanges> ranges = new HashMap<>();
        if (values.isEmpty()) {
            return ranges;
        }
        List<String> names = List.copyOf(values.keySet());
        runner.run(
                List.of(new GraphRunner.Tapped(graph.upTo(names), names)),
                0,
                fitting,
                batch -> batch.getFirst()
                        .forEach((value, tensor) -> ranges.computeIfAbsent(
                                        value, _ -> new ChannelRanges(values.get(value)))
                                .add(numbers(tensor), tensor.shape())));
        return ranges;
    }

    /** The recipe's scheme with the simplest choices everywhere else. */
    private Quantization plain() {
        return with(how, Quantization.WeightRange.MAX, false, Quantization.ActivationRange.MINMAX, List.of());
    }

    private static Quantization with(
            Quantization how,
            Quantization.WeightRange weightRange,
            boolean correction,
            Quantization.ActivationRange activationRange,
            List<Quantization.Unify> unify) {
        return new Quantization(
                how.keep(),
                how.fold(),
                how.relu6(),
                how.equalize(),
                how.absorb(),
                how.smooth(),
                how.weights(),
                weightRange,
                correction,
                how.activations(),
                activationRange,
                how.percentile(),
                unify,
                how.biasCorrection(),
                how.firstInFloat(),
                how.lastInFloat(),
                how.form());
    }

    // ---- rounding

    private QuantizedModel rounded(FloatGraph current, Quantization choice) {
        LayerGraph graph = current.graph();
        Placement placement = new Placement(graph, choice, targeted);
        if (placement.layers().isEmpty()) {
            throw new ModelException(
                    original.name()
                            + " has no layer to quantize: no convolution or matrix product with constant fp32 weights is targeted");
        }
        Map<String, Histogram> seen = calibrate(graph, placement.values());
        Map<String, Quantizer> values = new LinkedHashMap<>();
        placement.shared().values().forEach(sharing -> {
            Ranges.Range range = sharing.stream()
                    .map(value -> Ranges.of(seen.get(value), choice.activationRange(), choice.percentile())
                            .within(told(graph, value)))
                    .reduce(Ranges.Range::hull)
                    .orElseThrow();
            sharing.forEach(value -> values.put(value, quantizer(value, range, choice)));
        });
        Map<String, RoundedWeights> weights = new LinkedHashMap<>();
        List<String> said = new ArrayList<>();
        for (Layer layer : placement.layers()) {
            RoundedWeights.of(
                            WeightMatrix.of(graph, layer).orElseThrow(),
                            choice,
                            values.get(layer.input(0)).scale(),
                            said)
                    .ifPresent(rounded -> weights.put(layer.name(), rounded));
        }
        said.stream().filter(note -> !notes.contains(note)).forEach(notes::add);
        return new QuantizedModel(graph, placement, values, weights);
    }

    /** Between which numbers everyone who reads a value tells one from another: a HardSwish takes all below for the same. */
    private static Ranges.Range told(LayerGraph graph, String value) {
        double low = Double.POSITIVE_INFINITY;
        double high = Double.NEGATIVE_INFINITY;
        for (Layer reader : graph.readers(value)) {
            Operation.Activation activation =
                    Operation.of(graph, reader) instanceof Operation.Activation known ? known : null;
            low = Math.min(low, activation == null ? Double.NEGATIVE_INFINITY : activation.least());
            high = Math.max(high, activation == null ? Double.POSITIVE_INFINITY : activation.most());
        }
        return low < high
                ? new Ranges.Range(low, high)
                : new Ranges.Range(Double.NEGATIVE_INFINITY, Double.POSITIVE_INFINITY);
    }

    private Quantizer quantizer(String value, Ranges.Range range, Quantization choice) {
        double size = Math.max(-range.min(), range.max());
        if (size != 0 && size / 255 < Float.MIN_NORMAL) {
            throw new ModelException(original.name() + ": value \"" + value + "\" stays within " + size
                    + " on calibration data, too small for a scale in fp32; leave its layer out (ignore)");
        }
        return choice.activations() == Quantization.ActivationKind.AFFINE
                ? Quantizer.affine(range.min(), range.max())
                : Quantizer.symmetric(range.min(), range.max());
    }

    private Map<String, Histogram> calibrate(LayerGraph graph, List<String> values) {
        Map<String, Histogram> seen = new HashMap<>();
        values.forEach(value -> seen.put(value, new Histogram(value)));
        runner.run(
                List.of(new GraphRunner.Tapped(graph.upTo(values), values)),
                0,
                fitting,
                batch -> batch.getFirst()
                        .forEach((value, tensor) -> seen.get(value).add(numbers(tensor))));
        return seen;
    }

    private float[] numbers(Tensor tensor) {
        if (tensor.dtype() != DType.F32) {
            throw new ModelException(original.name() + ": value \"" + tensor.name() + "\" is " + tensor.dtype()
                    + ", but only fp32 is quantized; convert the model to fp32");
        }
        return Floats.toArray(tensor);
    }

    // ---- correcting biases

    /** {@code b -= sum (w' - w) E[x]}, the means as batch normalizations imply them. */
    private QuantizedModel analytic(QuantizedModel model, FloatGraph current) {
        Map<String, RoundedWeights> corrected = new LinkedHashMap<>(model.weights());
        List<String> unknown = new ArrayList<>();
        for (RoundedWeights rounded : model.weights().values()) {
            WeightMatrix weights = rounded.source().copy();
            double[] means = means(current, weights);
            if (means == null || !weights.takesBias()) {
                unknown.add(weights.layer().name());
                continue;
            }
            for (int o = 0; o < weights.outputs(); o++) {
                double shift = 0;
                for (int tap = 0; tap < weights.fanIn(); tap++) {
                    shift += (rounded.rounded(o, tap) - weights.get(o, tap)) * means[weights.channel(o, tap)];
                }
                weights.setBias(o, weights.bias(o) - shift);
            }
            replace(model, corrected, weights);
        }
        if (!unknown.isEmpty()) {
            notes.add("analytic bias correction knows no input means for " + unknown.size() + " layers, the first is "
                    + unknown.getFirst());
        }
        return new QuantizedModel(model.graph(), model.placement(), model.values(), corrected);
    }

    private static double[] means(FloatGraph current, WeightMatrix weights) {
        String value = weights.layer().input(0);
        Gaussians known = current.known().get(value);
        double low = Double.NEGATIVE_INFINITY;
        double high = Double.POSITIVE_INFINITY;
        Optional<Layer> producer = current.graph().producer(value);
        if (known == null
                && producer.isPresent()
                && Operation.of(current.graph(), producer.get())
                        instanceof Operation.Activation(Operation.Function function, float from, float to)
                && (function == Operation.Function.RELU || function == Operation.Function.CLIP)) {
            known = current.known().get(producer.get().input(0));
            low = from;
            high = to;
        }
        if (known == null || known.channels() != weights.allInputs()) {
            return null;
        }
        double[] means = new double[known.channels()];
        for (int c = 0; c < means.length; c++) {
            means[c] = known.clippedMean(c, low, high);
        }
        return means;
    }

    private void replace(QuantizedModel model, Map<String, RoundedWeights> corrected, WeightMatrix weights) {
        RoundedWeights.of(
                        weights,
                        how,
                        model.values().get(weights.layer().input(0)).scale(),
                        new ArrayList<>())
                .ifPresent(rounded -> corrected.put(weights.layer().name(), rounded));
    }

    /** {@code b_k -= mean(y'_k - y_k)} on data, layer after layer, those before it rounded and corrected already. */
    private QuantizedModel empirical(QuantizedModel model) {
        int samples = Math.min(fitting, CORRECTING);
        List<WeightMatrix> layers = model.weights().values().stream()
                .map(rounded -> rounded.source().copy())
                .filter(WeightMatrix::takesBias)
                .toList();
        List<String> outputs =
                layers.stream().map(weights -> weights.layer().output()).toList();
        Map<String, ChannelMeans> dense = new HashMap<>();
        layers.forEach(weights -> dense.put(weights.layer().output(), new ChannelMeans(weights)));
        if (layers.isEmpty()) {
            return model;
        }
        runner.run(
                List.of(new GraphRunner.Tapped(model.graph().upTo(outputs), outputs)),
                0,
                samples,
                batch -> batch.getFirst()
                        .forEach((value, tensor) -> dense.get(value).add(numbers(tensor), tensor.shape())));
        QuantizedModel corrected = model;
        for (WeightMatrix weights : layers) {
            String output = weights.layer().output();
            ChannelMeans rounded = new ChannelMeans(weights);
            LayerGraph part = corrected.export(unfused()).upTo(List.of(output));
            runner.run(
                    List.of(new GraphRunner.Tapped(part, List.of(output))),
                    0,
                    samples,
                    batch -> rounded.add(
                            numbers(batch.getFirst().get(output)),
                            batch.getFirst().get(output).shape()));
            for (int o = 0; o < weights.outputs(); o++) {
                weights.setBias(
                        o,
                        weights.bias(o) - (rounded.mean(o) - dense.get(output).mean(o)));
            }
            Map<String, RoundedWeights> changed = new LinkedHashMap<>(corrected.weights());
            replace(corrected, changed, weights);
            corrected = new QuantizedModel(corrected.graph(), corrected.placement(), corrected.values(), changed);
        }
        return corrected;
    }

    /** A form in which every value of the float graph still has its name. */
    private Quantization.Form unfused() {
        return how.form() == Quantization.Form.QLINEAR ? Quantization.Form.QDQ : how.form();
    }

    /** Means of a layer's outputs: axis 1 of a convolution's, the last of a linear layer's. */
    private static final class ChannelMeans {
        private final double[] sums;
        private final boolean image;
        private long count;

        ChannelMeans(WeightMatrix weights) {
            this.sums = new double[weights.outputs()];
            this.image = weights.layer().is("Conv");
        }

        void add(float[] values, Shape shape) {
            Channels channels = Channels.of(shape, image);
            for (int i = 0; i < values.length; i++) {
                sums[channels.channel(i)] += values[i];
            }
            count += values.length / sums.length;
        }

        double mean(int channel) {
            return sums[channel] / count;
        }
    }

    // ---- judging

    /** Adds a stage; returns what the passes are weighed by. */
    private double judge(String pass, FloatGraph current, Quantization choice) {
        progress.accept(pass);
        return judge(pass, rounded(current, choice));
    }

    private double judge(String pass, QuantizedModel model) {
        Noise noise = noise(model);
        stages.add(new Stage(pass, noise.decibels(), score.apply(model.export(how.form()))));
        return how.biasCorrection() == Quantization.BiasCorrection.OFF ? noise.decibels() : noise.decibelsAround();
    }

    private Noise noise(QuantizedModel model) {
        List<String> outputs = original.outputs().stream()
                .filter(port -> port.dtype() == DType.F32)
                .map(port -> scores(port.name()))
                .distinct()
                .toList();
        Noise all = new Noise();
        compare(
                original,
                model.export(how.form()),
                outputs,
                Function.identity(),
                (_, a, b, shape) -> all.add(a, b, shape));
        return all;
    }

    /** What a softmax at the end makes an output of: its shares are nearly always 0 or 1 and tell little. */
    private String scores(String output) {
        String value = output;
        Optional<Layer> producer = original.producer(value);
        while (producer.isPresent()
                && (producer.get().is("Softmax") || producer.get().is("Identity"))
                && original.producer(producer.get().input(0)).isPresent()) {
            value = producer.get().input(0);
            producer = original.producer(value);
        }
        return value;
    }

    private interface Compared {
        void values(String name, float[] dense, float[] rounded, Shape shape);
    }

    private void compare(
            LayerGraph dense,
            LayerGraph rounded,
            List<String> values,
            Function<String, String> counterpart,
            Compared compared) {
        List<String> others = values.stream().map(counterpart).toList();
        int from = fitting < runner.samples() ? fitting : 0;
        runner.run(
                List.of(
                        new GraphRunner.Tapped(dense.upTo(values), values),
                        new GraphRunner.Tapped(rounded.upTo(others), others)),
                from,
                Math.min(runner.samples(), from + JUDGING),
                batch -> {
                    for (int i = 0; i < values.size(); i++) {
                        Tensor before = batch.get(0).get(values.get(i));
                        Tensor after = batch.get(1).get(others.get(i));
                        compared.values(values.get(i), numbers(before), numbers(after), before.shape());
                    }
                });
    }

    // ---- telling

    private Result result(QuantizedModel model) {
        progress.accept("layers");
        LayerGraph exported = model.export(how.form());
        List<String> ends = model.weights().values().stream()
                .map(rounded -> model.placement().fused(rounded.source().layer()))
                .filter(model.values()::containsKey)
                .distinct()
                .toList();
        Map<String, Noise> noises = ends.stream().collect(Collectors.toMap(Function.identity(), _ -> new Noise()));
        if (!ends.isEmpty()) {
            compare(
                    model.graph(),
                    model.export(unfused()),
                    ends,
                    QuantizedModel::dequantized,
                    (value, a, b, shape) -> noises.get(value).add(a, b, shape));
        }
        List<LayerResult> layers = new ArrayList<>();
        for (RoundedWeights rounded : model.weights().values()) {
            WeightMatrix weights = rounded.source();
            Layer layer = weights.layer();
            Noise noise = noises.get(model.placement().fused(layer));
            layers.add(new LayerResult(
                    layer.name(),
                    layer.operator(),
                    weights.outputs(),
                    weights.fanIn(),
                    masked(rounded),
                    rounded.zeros(),
                    noise == null ? OptionalDouble.empty() : OptionalDouble.of(noise.decibels())));
        }
        List<String> inFloat = model.placement().inFloat().stream()
                .map(layer -> layer.name() + " (" + layer.operator() + ")")
                .toList();
        return new Result(exported, layers, stages, inFloat, notes);
    }

    /** Zeros of the weight that came in, all of which have to be zeros now. */
    private long masked(RoundedWeights rounded) {
        WeightMatrix now = rounded.source();
        Optional<WeightMatrix> before =
                original.layer(now.layer().name()).flatMap(layer -> WeightMatrix.of(original, layer));
        if (before.isEmpty() || !before.get().shape().equals(now.shape())) {
            return now.zeros();
        }
        byte[] numbers = rounded.numbers();
        for (int o = 0; o < now.outputs(); o++) {
            for (int tap = 0; tap < now.fanIn(); tap++) {
                if (before.get().get(o, tap) == 0 && numbers[now.position(o, tap)] != 0) {
                    throw new IllegalStateException(
                            "layer " + now.layer().name() + ": a pruned weight of output " + o + " came back");
                }
            }
        }
        return before.get().zeros();
    }
}

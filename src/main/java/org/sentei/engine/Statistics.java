package org.sentei.engine;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.sentei.engine.report.Report;
import org.sentei.format.FormatException;
import org.sentei.format.JsonFault;
import org.sentei.format.SealedFile;
import org.sentei.method.Moments;
import org.sentei.method.MomentsTree;
import org.sentei.method.MomentsTree.Node;
import org.sentei.model.Site;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * Moments of what the sites of a dense model read, from all batches of the calibration data or from some. Batches are merged
 * along a {@link MomentsTree}, so that the statistics have the same bits whatever shards they were collected in.
 *
 * <p>As a {@link SealedFile}: for the N-th input {@code moments.N}, F64 nodes x 3 x columns as {@link Moments#state} has
 * them, and {@code count.N}, I64 nodes; first the nodes of the data that a bias update is fitted to, then those of the held
 * out ones.
 */
final class Statistics {
    /** Behind a device that ran halved batches: its sums are rounded in another order. */
    static final String HALVED = ", batches halved for lack of memory";

    private static final String WEIGHTS = "model.weights";
    private static final String TEXT = "calibration";
    private static final int MOST_BATCHES = 1 << 24;
    private static final int MOST_COLUMNS = 1 << 24;

    private final About about;
    private final Map<String, Sums> inputs;

    private Statistics(About about, Map<String, Sums> inputs) {
        this.about = about;
        this.inputs = inputs;
    }

    /** What has been collected of one input. */
    private record Sums(int cols, MomentsTree fitting, MomentsTree heldOut) {}

    /** An input and its columns. */
    record Input(String name, int cols) {
        Input {
            if (name == null || cols < 1 || cols > MOST_COLUMNS) {
                throw new IllegalArgumentException("an input has no name, or " + cols + " columns");
            }
        }
    }

    /**
     * What the file says besides tensors.
     *
     * @param identity what all shards of one collection have in common: model, tokenizer, text and windows
     * @param made the devices and programs that collected
     * @param source where the text was
     * @param samples windows of the whole calibration data
     * @param length tokens of each
     * @param fittingBatches of the whole calibration data
     * @param heldOutBatches of the whole calibration data
     * @param inputs in the order of the tensors
     * @param fitting batches that are in the file
     * @param heldOut batches that are in the file
     */
    record About(
            Map<String, String> identity,
            List<String> made,
            String source,
            int samples,
            int length,
            int fittingBatches,
            int heldOutBatches,
            List<Input> inputs,
            List<Node> fitting,
            List<Node> heldOut) {
        About {
            if (identity == null
                    || identity.values().stream().anyMatch(Objects::isNull)
                    || source == null
                    || samples < 1
                    || length < 1
                    || fittingBatches < 1
                    || heldOutBatches < 0
                    || Math.max(fittingBatches, heldOutBatches) > MOST_BATCHES
                    || isIncomplete(made)
                    || isIncomplete(inputs)
                    || isIncomplete(fitting)
                    || isIncomplete(heldOut)
                    || fitting.size() + heldOut.size() == 0
                    || made.isEmpty()) {
                throw new IllegalArgumentException("it does not say what it is about");
            }
            if (fitting.stream().anyMatch(node -> node.end() > fittingBatches)
                    || heldOut.stream().anyMatch(node -> node.end() > heldOutBatches)) {
                throw new IllegalArgumentException("it has batches behind the last");
            }
        }

        private static boolean isIncomplete(List<?> list) {
            return list == null || list.stream().anyMatch(Objects::isNull);
        }

        About covering(Set<String> makers, String from, List<Node> fit, List<Node> held) {
            return new About(
                    identity,
                    List.copyOf(makers),
                    from,
                    samples,
                    length,
                    fittingBatches,
                    heldOutBatches,
                    inputs,
                    fit,
                    held);
        }
    }

    /**
     * What a collection is of, and by whom.
     *
     * @param identity of model, tokenizer and windows, without the text
     * @param maker the device and program that collects
     * @param whole all of the calibration data
     */
    record Origin(Map<String, String> identity, String maker, Calibration whole) {}

    /**
     * Statistics that have just been collected.
     *
     * @param collected by the name of the input
     */
    static Statistics of(Origin origin, Map<String, InputStatistics.Collected> collected) {
        Map<String, Sums> inputs = new TreeMap<>();
        collected.forEach((name, sums) ->
                inputs.put(name, new Sums(Math.toIntExact(sums.site().cols()), sums.fitting(), sums.heldOut())));
        Map<String, String> identity = new TreeMap<>(origin.identity());
        Calibration whole = origin.whole();
        identity.put(TEXT, whole.data().sha256());
        Sums any = inputs.values().iterator().next();
        return new Statistics(
                new About(
                        identity,
                        List.of(origin.maker()),
                        whole.data().source(),
                        whole.windows(),
                        whole.length(),
                        whole.fitting().count(),
                        whole.heldOut().count(),
                        inputs.entrySet().stream()
                                .map(input -> new Input(
                                        input.getKey(), input.getValue().cols()))
                                .toList(),
                        nodes(any.fitting()),
                        nodes(any.heldOut())),
                inputs);
    }

    private static List<Node> nodes(MomentsTree tree) {
        return tree.nodes().stream().map(Map.Entry::getKey).toList();
    }

    /**
     * Reads a file.
     *
     * @throws FormatException when it is missing, damaged or of another kind
     */
    static Statistics read(Path file) {
        try (Arena arena = Arena.ofConfined()) {
            SealedFile<About> sealed = SealedFile.map(file, About.class, arena);
            return new Statistics(sealed.about(), inputs(sealed));
        } catch (IOException e) {
            throw damaged(file, JsonFault.of(e), e);
        } catch (FormatException | IllegalArgumentException e) {
            throw damaged(file, e.getMessage(), e);
        }
    }

    private static FormatException damaged(Path file, String fact, Exception cause) {
        return new FormatException(
                "statistics " + file + " cannot be used: " + fact + "; collect them again with sentei stats", cause);
    }

    private static Map<String, Sums> inputs(SealedFile<About> file) {
        About about = file.about();
        int nodes = about.fitting().size() + about.heldOut().size();
        Map<String, Sums> inputs = new LinkedHashMap<>();
        for (int i = 0; i < about.inputs().size(); i++) {
            Input input = about.inputs().get(i);
            double[] moments = tensor(file, "moments." + i, DType.F64, Shape.of(nodes, 3, input.cols()))
                    .toArray(ValueLayout.JAVA_DOUBLE_UNALIGNED);
            long[] counts =
                    tensor(file, "count." + i, DType.I64, Shape.of(nodes)).toArray(ValueLayout.JAVA_LONG_UNALIGNED);
            MomentsTree fitting = new MomentsTree();
            MomentsTree heldOut = new MomentsTree();
            for (int n = 0; n < nodes; n++) {
                boolean held = n >= about.fitting().size();
                Node node = held
                        ? about.heldOut().get(n - about.fitting().size())
                        : about.fitting().get(n);
                (held ? heldOut : fitting).add(node, moments(input, n, moments, counts[n]));
            }
            if (inputs.put(input.name(), new Sums(input.cols(), fitting, heldOut)) != null) {
                throw new IllegalArgumentException("input " + input.name() + " is there twice");
            }
        }
        if (inputs.isEmpty()) {
            throw new IllegalArgumentException("it has no inputs");
        }
        return inputs;
    }

    private static MemorySegment tensor(SealedFile<About> file, String name, DType dtype, Shape shape) {
        Tensor tensor = file.tensors().tensor(name);
        if (tensor.dtype() != dtype || !tensor.shape().equals(shape)) {
            throw new IllegalArgumentException(name + " is " + tensor.dtype() + " " + tensor.shape());
        }
        return tensor.data();
    }

    private static Moments moments(Input input, int node, double[] all, long count) {
        double[] state = new double[3 * input.cols()];
        System.arraycopy(all, node * state.length, state, 0, state.length);
        Moments moments = Moments.of(count, state);
        if (count < 1 || count > 1L << 52 || !moments.isPlausible()) {
            throw new IllegalArgumentException(
                    "the moments of input " + input.name() + " are none of " + count + " rows");
        }
        return moments;
    }

    /**
     * Writes a file that appears complete or not at all.
     *
     * @throws RunException when it cannot be written
     */
    void write(Path file) {
        List<Tensor> tensors = new ArrayList<>();
        for (int i = 0; i < about.inputs().size(); i++) {
            Sums sums = inputs.get(about.inputs().get(i).name());
            List<Moments> nodes = new ArrayList<>();
            sums.fitting().nodes().forEach(node -> nodes.add(node.getValue()));
            sums.heldOut().nodes().forEach(node -> nodes.add(node.getValue()));
            int cols = sums.cols();
            double[] moments = new double[Math.multiplyExact(nodes.size(), 3 * cols)];
            long[] counts = new long[nodes.size()];
            for (int n = 0; n < counts.length; n++) {
                System.arraycopy(nodes.get(n).state(), 0, moments, n * 3 * cols, 3 * cols);
                counts[n] = nodes.get(n).count();
            }
            tensors.add(new Tensor(
                    "moments." + i, DType.F64, Shape.of(counts.length, 3, cols), MemorySegment.ofArray(moments)));
            tensors.add(new Tensor("count." + i, DType.I64, Shape.of(counts.length), MemorySegment.ofArray(counts)));
        }
        try {
            SealedFile.write(file, tensors, about);
        } catch (IOException e) {
            throw new RunException(
                    "statistics " + file + " cannot be written: " + e.getMessage()
                            + "; make room or choose another place",
                    e);
        }
    }

    /**
     * What two shards of one collection have together.
     *
     * @param named how to call the other one
     * @throws FormatException when they are of two collections, or have a batch in common
     */
    Statistics merge(Statistics other, String named) {
        Optional<String> difference =
                new Fingerprint(about.identity()).difference(new Fingerprint(other.about.identity()));
        if (difference.isPresent() || !shape().equals(other.shape())) {
            throw new FormatException(named + " is no shard of the same statistics: "
                    + difference.orElse("it has other inputs or batches")
                    + "; collect all shards with the same model, recipe, text and tokenizer");
        }
        inputs.forEach((name, sums) -> {
            Sums more = other.inputs.get(name);
            try {
                more.fitting().nodes().forEach(node -> sums.fitting().add(node.getKey(), node.getValue()));
                more.heldOut().nodes().forEach(node -> sums.heldOut().add(node.getKey(), node.getValue()));
            } catch (IllegalArgumentException e) {
                throw new FormatException(
                        named + " overlaps the shards before it (" + e.getMessage()
                                + "): give every shard once, all cut by the same --shard I/N",
                        e);
            }
        });
        Sums any = inputs.values().iterator().next();
        Set<String> makers = new TreeSet<>(about.made());
        makers.addAll(other.about.made());
        String source = about.source().compareTo(other.about.source()) < 0 ? about.source() : other.about.source();
        return new Statistics(about.covering(makers, source, nodes(any.fitting()), nodes(any.heldOut())), inputs);
    }

    /** What is said of the whole, without what a shard has of it. */
    private About shape() {
        return about.covering(Set.of("any"), "any", List.of(new Node(0, 0)), List.of());
    }

    int batches() {
        return about.fittingBatches() + about.heldOutBatches();
    }

    int covered() {
        Sums any = inputs.values().iterator().next();
        return any.fitting().batches() + any.heldOut().batches();
    }

    Sentei.Collected summary() {
        long tokens = inputs.values().stream()
                .mapToLong(sums -> sums.fitting().total(sums.cols()).count()
                        + sums.heldOut().total(sums.cols()).count())
                .max()
                .orElseThrow();
        return new Sentei.Collected(inputs.size(), tokens, covered(), batches(), about.made());
    }

    /** Devices and programs that collected. */
    List<String> made() {
        return about.made();
    }

    /** Whether one device that takes whole batches could get other bits than these did. */
    static boolean mayRoundDifferently(List<String> made) {
        return made.size() > 1 || made.getFirst().endsWith(HALVED);
    }

    Report.Calibration reported() {
        return new Report.Calibration(
                about.source(),
                about.identity().getOrDefault(TEXT, ""),
                about.samples(),
                (long) about.samples() * about.length());
    }

    /**
     * Refuses statistics that a compression cannot use.
     *
     * @param file where they are
     * @param identity of model and windows as {@link Origin} has it, without what is not known yet
     * @param sites whose inputs are needed
     * @throws FormatException when they are incomplete, or of something else
     */
    void check(Path file, Map<String, String> identity, Set<Site> sites) {
        if (covered() < batches()) {
            throw new FormatException("statistics " + file + " are of " + covered() + " of " + batches()
                    + " batches: merge all shards first, with sentei merge-stats");
        }
        Map<String, String> same = new HashMap<>(about.identity());
        same.keySet().retainAll(identity.keySet());
        Optional<String> difference = new Fingerprint(identity).difference(new Fingerprint(same));
        if (difference.isPresent()) {
            throw new FormatException("statistics " + file + " are of something else: " + difference.get()
                    + "; collect them with this model and recipe");
        }
        for (Site site : sites) {
            Sums sums = inputs.get(site.input());
            if (sums == null || sums.cols() != site.cols()) {
                throw new FormatException("statistics " + file + " have none of the " + site.cols() + " inputs of site "
                        + site.name() + ": collect them with a recipe that targets it");
            }
        }
    }

    /** Refuses statistics of another model, as {@link #check} does once the weights' hash is known. */
    void checkWeights(Path file, String sha256) {
        check(file, Map.of(WEIGHTS, sha256), Set.of());
    }

    /** The identity of a model for {@link Origin}. */
    static Map<String, String> identity(String weights, Map<String, String> others) {
        Map<String, String> identity = new HashMap<>(others);
        identity.put(WEIGHTS, weights);
        return identity;
    }

    /** Looks the statistics of a group's sites up. */
    Map<String, InputStatistics> of(Set<Site> sites) {
        Map<String, InputStatistics> found = new HashMap<>();
        for (Site site : sites) {
            found.computeIfAbsent(site.input(), name -> {
                Sums sums = inputs.get(name);
                return new InputStatistics.Collected(site, sums.fitting(), sums.heldOut(), null, List.of()).total();
            });
        }
        return found;
    }
}

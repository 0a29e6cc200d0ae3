package org.sentei.method.easier;

import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.sentei.method.easier.Kernel.Axis;
import org.sentei.method.easier.Kernel.Outline;
import org.sentei.method.easier.Merge.Border;
import org.sentei.model.graph.Attribute;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;

/** Merges of convolutions with convolutions. */
final class ConvolutionMerge {
    /** First version of ONNX's operators whose Slice takes its bounds as inputs. */
    private static final long SLICE_OPSET = 10;

    private final LayerGraph graph;
    private final Merge.Terms terms;
    private final List<Merge.Candidate> candidates;
    private final Map<String, String> refused;
    private final Map<Layer, Optional<Link>> links = new HashMap<>();

    ConvolutionMerge(
            LayerGraph graph, Merge.Terms terms, List<Merge.Candidate> candidates, Map<String, String> refused) {
        this.graph = graph;
        this.terms = terms;
        this.candidates = candidates;
        this.refused = refused;
    }

    /** A layer of a chain. */
    private record Link(Layer layer, Kernel kernel) {
        String input() {
            return layer.input(0);
        }

        String output() {
            return layer.output();
        }
    }

    /** A sum of what the last of a chain makes with the chain's input, or with a convolution of it. */
    private record Shortcut(Layer sum, Optional<Link> beside) {}

    /** Sizes of an image. */
    private record Size(int height, int width) {
        Size behind(Outline outline) {
            return new Size(outline.height().outputs(height), outline.width().outputs(width));
        }

        long pixels() {
            return (long) height * width;
        }
    }

    /** Why layers cannot be merged. */
    private static final class NotMerged extends Exception {
        private static final long serialVersionUID = 1;

        NotMerged(String reason) {
            super(reason);
        }
    }

    void propose() {
        for (Layer layer : graph.layers()) {
            if (link(layer).isPresent()
                    && graph.producer(layer.input(0))
                            .filter(before -> next(before).isPresent())
                            .isEmpty()) {
                chain(layer);
            }
        }
    }

    private Optional<Link> link(Layer layer) {
        return links.computeIfAbsent(
                layer,
                _ -> layer.captures().isEmpty() && layer.outputs().size() == 1
                        ? Kernel.of(graph, layer).map(kernel -> new Link(layer, kernel))
                        : Optional.empty());
    }

    /** The link behind a link, if it is all that reads it. */
    private Optional<Link> next(Layer before) {
        return link(before).isEmpty()
                ? Optional.empty()
                : graph.onlyReader(before.output())
                        .filter(reader -> reader.input(0).equals(before.output()))
                        .flatMap(this::link);
    }

    private void chain(Layer first) {
        List<Link> links = new ArrayList<>();
        for (Optional<Link> at = link(first); at.isPresent(); at = next(at.get().layer())) {
            links.add(at.get());
        }
        for (int from = 0; from < links.size(); from++) {
            for (int to = from + 1; to <= links.size(); to++) {
                List<Link> part = links.subList(from, to);
                Optional<Shortcut> shortcut = to == links.size() ? shortcut(part) : Optional.empty();
                if (part.size() > 1 || shortcut.isPresent()) {
                    propose(part, shortcut);
                }
            }
        }
    }

    private Optional<Shortcut> shortcut(List<Link> part) {
        String output = part.getLast().output();
        String input = part.getFirst().input();
        Optional<Layer> sum = graph.onlyReader(output)
                .filter(reader -> reader.is("Add") && reader.captures().isEmpty());
        if (sum.isEmpty()) {
            return Optional.empty();
        }
        String other = sum.get().input(0).equals(output)
                ? sum.get().input(1)
                : sum.get().input(0);
        if (other.equals(input)) {
            return Optional.of(new Shortcut(sum.get(), Optional.empty()));
        }
        return graph.producer(other)
                .filter(layer ->
                        layer.input(0).equals(input) && graph.onlyReader(other).equals(sum))
                .flatMap(this::link)
                .map(beside -> new Shortcut(sum.get(), Optional.of(beside)));
    }

    private void propose(List<Link> part, Optional<Shortcut> shortcut) {
        String name = String.join(
                " + ", part.stream().map(link -> link.layer().name()).toList());
        try {
            candidates.add(merged(name, part, shortcut));
        } catch (NotMerged reason) {
            refused.put(name, reason.getMessage());
            if (shortcut.isPresent() && part.size() > 1) {
                propose(part, Optional.empty());
            }
        }
    }

    private Size size(String value) throws NotMerged {
        Shape shape = terms.shapes().get(value);
        if (shape == null || shape.rank() < 3 || shape.rank() > 4) {
            throw new NotMerged("the size of its input is not known");
        }
        int rank = shape.rank();
        return new Size(
                rank == 4 ? Math.toIntExact(shape.dimension(2)) : 1, Math.toIntExact(shape.dimension(rank - 1)));
    }

    private Merge.Candidate merged(String name, List<Link> part, Optional<Shortcut> shortcut) throws NotMerged {
        Link first = part.getFirst();
        Size image = size(first.input());
        Outline total = first.kernel().outline();
        Border border = Border.NONE;
        boolean biased = first.kernel().hasBias();
        Size size = image.behind(total);
        long separate = total.multiplications(size.pixels());
        for (Link link : part.subList(1, part.size())) {
            Outline next = link.kernel().outline();
            if (!total.canPrecede(next)) {
                throw new NotMerged("the merged layer would have too many weights");
            }
            if (next.isPadded() && !total.isPoint()) {
                if (terms.padFirst() && border == Border.BIAS_MAP) {
                    throw new NotMerged("zeros cannot be moved across a bias that has an own value for every pixel");
                }
                border = terms.padFirst() ? Border.PAD_FIRST : Border.RING;
            } else if (border == Border.NONE && next.isPadded() && biased) {
                border = Border.BIAS_MAP;
            }
            biased |= link.kernel().hasBias();
            total = total.then(next);
            size = size.behind(next);
            separate += next.multiplications(size.pixels());
        }
        if (size.pixels() == 0) {
            throw new NotMerged("its input is smaller than the merged kernel");
        }
        if (!terms.isFixed() && (border == Border.BIAS_MAP || border == Border.RING)) {
            throw new NotMerged(
                    "borders need the size of images, which the model leaves free; fix its input's height and"
                            + " width");
        }
        if (border == Border.RING) {
            if (shortcut.isPresent()) {
                throw new NotMerged("what is added stays apart where borders are computed in separate steps");
            }
            return ring(name, part, total, image, size, separate);
        }
        if (shortcut.isPresent()) {
            Optional<Link> beside = shortcut.get().beside();
            total = (beside.isPresent() ? total.plus(beside.get().kernel().outline()) : total.plusInput())
                    .orElseThrow(() ->
                            new NotMerged("what is added to it has another stride or size, or reads other pixels"));
            if (beside.isPresent()) {
                separate += beside.get().kernel().outline().multiplications(size.pixels());
            }
        }
        Border kept = border;
        Size made = size;
        return new Merge.Candidate(
                name,
                border,
                separate,
                total.multiplications(size.pixels()),
                () -> built(part, shortcut, kept, image, made));
    }

    /** Composes the numbers. */
    private Merge.Built built(List<Link> part, Optional<Shortcut> shortcut, Border border, Size image, Size made) {
        Link first = part.getFirst();
        Kernel total = first.kernel();
        double[] map = null;
        Size size = image.behind(total.outline());
        for (Link link : part.subList(1, part.size())) {
            Kernel next = link.kernel();
            if (border == Border.BIAS_MAP) {
                map = next.apply(map == null ? constant(total, size) : map, size.height(), size.width());
            }
            total = total.then(next);
            size = size.behind(next.outline());
        }
        if (shortcut.isPresent()) {
            Optional<Link> beside = shortcut.get().beside();
            Kernel sum = (beside.isPresent() ? total.plus(beside.get().kernel()) : total.plusInput()).orElseThrow();
            for (int i = 0; map != null && i < map.length; i++) {
                int output = (int) (i / size.pixels());
                map[i] += sum.bias(output) - total.bias(output);
            }
            total = sum;
        }
        List<Layer> from = new ArrayList<>(part.stream().map(Link::layer).toList());
        shortcut.flatMap(Shortcut::beside).ifPresent(beside -> from.add(beside.layer()));
        shortcut.ifPresent(added -> from.add(added.sum()));
        String output = shortcut.map(added -> added.sum().output())
                .orElse(part.getLast().output());
        LayerGraph.Editor edit = graph.edit();
        List<Layer> to = new ArrayList<>();
        boolean flat = isFlat(first.input());
        String own = part.getLast().layer().name();
        if (map == null) {
            to.add(convolution(edit, own, first.input(), total, total.hasBias(), flat, output));
        } else {
            String unbiased = edit.fresh(output + ".unbiased");
            to.add(convolution(edit, own, first.input(), total, false, flat, unbiased));
            long[] shape = flat
                    ? new long[] {1, total.outputs(), made.width()}
                    : new long[] {1, total.outputs(), made.height(), made.width()};
            String bias = edit.constant(
                    own + ".bias_map", DType.F32, Shape.of(shape), MemorySegment.ofArray(Kernel.rounded(map)));
            to.add(Layer.of(edit.fresh(own + ".border"), "Add", List.of(unbiased, bias), output, Map.of()));
        }
        Kernel padded = total;
        return new Merge.Change(from, to, first.input(), output)
                .in(
                        graph,
                        terms,
                        edit,
                        original -> border == Border.PAD_FIRST ? paddedFirst(original, part, padded, flat) : original);
    }

    private boolean isFlat(String value) {
        return terms.shapes().get(value).rank() == 3;
    }

    private static double[] constant(Kernel kernel, Size size) {
        double[] image = new double[Math.toIntExact(kernel.outputs() * size.pixels())];
        for (int i = 0; i < image.length; i++) {
            image[i] = kernel.bias((int) (i / size.pixels()));
        }
        return image;
    }

    /** The graph with all zeros of a chain in front of its first layer. */
    private static LayerGraph paddedFirst(LayerGraph graph, List<Link> part, Kernel total, boolean flat) {
        LayerGraph.Editor edit = graph.edit();
        for (Link link : part) {
            boolean first = link.equals(part.getFirst());
            if (first && !link.layer().is("Conv")) {
                // A normalization takes no zeros: a convolution in its place does.
                Kernel kernel = link.kernel()
                        .padded(
                                total.height().begin(),
                                total.height().end(),
                                total.width().begin(),
                                total.width().end());
                edit.replace(
                        link.layer(),
                        convolution(edit, link.layer().name(), link.input(), kernel, true, flat, link.output()));
            } else if (link.layer().is("Conv")) {
                Axis none = Axis.POINT;
                edit.replace(
                        link.layer(),
                        padded(link.layer(), first ? total.height() : none, first ? total.width() : none, flat));
            }
        }
        return edit.build();
    }

    /** The same convolution with other zeros around its input. */
    private static Layer padded(Layer layer, Axis height, Axis width, boolean flat) {
        Map<String, Attribute> attributes = new LinkedHashMap<>(layer.attributes());
        attributes.remove("auto_pad");
        attributes.put("pads", pads(flat, height, width));
        return new Layer(layer.name(), "", "Conv", layer.inputs(), layer.outputs(), attributes, List.of());
    }

    private static Layer convolution(
            LayerGraph.Editor edit,
            String name,
            String input,
            Kernel kernel,
            boolean biased,
            boolean flat,
            String output) {
        Axis height = kernel.height();
        Axis width = kernel.width();
        long own = kernel.inputs() / kernel.groups();
        long[] shape = flat
                ? new long[] {kernel.outputs(), own, width.size()}
                : new long[] {kernel.outputs(), own, height.size(), width.size()};
        List<String> inputs = new ArrayList<>(List.of(
                input,
                edit.constant(
                        name + ".merged_weight",
                        DType.F32,
                        Shape.of(shape),
                        MemorySegment.ofArray(kernel.roundedWeights()))));
        if (biased) {
            inputs.add(edit.constant(
                    name + ".merged_bias",
                    DType.F32,
                    Shape.of(kernel.outputs()),
                    MemorySegment.ofArray(kernel.roundedBias())));
        }
        Map<String, Attribute> attributes = new LinkedHashMap<>();
        attributes.put("group", new Attribute.Whole(kernel.groups()));
        attributes.put("kernel_shape", wholes(flat, height.size(), width.size()));
        attributes.put("strides", wholes(flat, height.stride(), width.stride()));
        attributes.put("dilations", wholes(flat, height.dilation(), width.dilation()));
        attributes.put("pads", pads(flat, height, width));
        return Layer.of(name, "Conv", inputs, output, attributes);
    }

    private static Attribute pads(boolean flat, Axis height, Axis width) {
        return new Attribute.Wholes(
                flat
                        ? List.of((long) width.begin(), (long) width.end())
                        : List.of(
                                (long) height.begin(), (long) width.begin(), (long) height.end(), (long) width.end()));
    }

    private static Attribute wholes(boolean flat, long height, long width) {
        return new Attribute.Wholes(flat ? List.of(width) : List.of(height, width));
    }

    // ---- borders in separate steps

    /** From one element to another, exclusive. */
    private record Range(int from, int to) {
        int length() {
            return to - from;
        }
    }

    /** Outputs along an axis whose layers behind the first read nothing outside of what the layers before them made. */
    private static Range clean(List<Axis> axes, int length) {
        int[] lengths = new int[axes.size()];
        lengths[0] = length;
        for (int i = 1; i < lengths.length; i++) {
            lengths[i] = axes.get(i - 1).outputs(lengths[i - 1]);
        }
        int outputs = axes.getLast().outputs(lengths[lengths.length - 1]);
        int from = -1;
        int to = -1;
        for (int at = 0; at < outputs; at++) {
            long least = at;
            long most = at;
            boolean isClean = true;
            for (int i = axes.size() - 1; i > 0; i--) {
                Axis axis = axes.get(i);
                least = least * axis.stride() - axis.begin();
                most = most * axis.stride() - axis.begin() + axis.extent() - 1;
                isClean &= least >= 0 && most < lengths[i];
            }
            if (isClean) {
                from = from < 0 ? at : from;
                to = at + 1;
            }
        }
        return new Range(Math.max(0, from), Math.max(0, to));
    }

    /** What layers read along an axis for some outputs: which inputs of the first, and how many zeros each adds around. */
    private record Reach(Range input, List<int[]> zeros) {
        static Reach of(List<Axis> axes, int length, Range outputs) throws NotMerged {
            int[] lengths = new int[axes.size()];
            lengths[0] = length;
            for (int i = 1; i < lengths.length; i++) {
                lengths[i] = axes.get(i - 1).outputs(lengths[i - 1]);
            }
            List<int[]> zeros = new ArrayList<>();
            int from = outputs.from();
            int last = outputs.to() - 1;
            for (int i = axes.size() - 1; i >= 0; i--) {
                Axis axis = axes.get(i);
                int least = from * axis.stride() - axis.begin();
                int most = last * axis.stride() - axis.begin() + axis.extent() - 1;
                from = Math.max(0, least);
                last = Math.min(lengths[i] - 1, most);
                if (from > last) {
                    throw new NotMerged("some outputs see nothing but the zeros around the image");
                }
                zeros.addFirst(new int[] {from - least, most - last});
            }
            return new Reach(new Range(from, last + 1), zeros);
        }
    }

    /** The part of the graph in the making that computes rectangles of the outputs. */
    private final class Rectangles {
        private final LayerGraph.Editor edit = graph.edit();
        private final List<Link> part;
        private final Outline total;
        /** Null while all is only counted. */
        private final Kernel kernel;

        private final Size image;
        private final List<Layer> layers = new ArrayList<>();
        private final boolean flat;
        private final String own;
        private long multiplications;

        Rectangles(List<Link> part, Outline total, Kernel kernel, Size image) {
            this.part = part;
            this.total = total;
            this.kernel = kernel;
            this.image = image;
            this.flat = isFlat(part.getFirst().input());
            this.own = part.getLast().layer().name();
        }

        String merged(Range rows, Range cols) throws NotMerged {
            Reach down = Reach.of(List.of(total.height()), image.height(), rows);
            Reach across = Reach.of(List.of(total.width()), image.width(), cols);
            int[] vertical = down.zeros().getFirst();
            int[] horizontal = across.zeros().getFirst();
            String output = edit.fresh(own + ".inside_output");
            String input = slice(down, across);
            if (kernel != null) {
                Kernel padded = kernel.padded(vertical[0], vertical[1], horizontal[0], horizontal[1]);
                layers.add(
                        convolution(edit, edit.fresh(own + ".inside"), input, padded, padded.hasBias(), flat, output));
            }
            multiplications += total.multiplications((long) rows.length() * cols.length());
            return output;
        }

        String separate(Range rows, Range cols) throws NotMerged {
            Reach down =
                    Reach.of(part.stream().map(link -> link.kernel().height()).toList(), image.height(), rows);
            Reach across =
                    Reach.of(part.stream().map(link -> link.kernel().width()).toList(), image.width(), cols);
            String value = slice(down, across);
            int height = down.input().length();
            int width = across.input().length();
            for (int i = 0; i < part.size(); i++) {
                Link link = part.get(i);
                int[] vertical = down.zeros().get(i);
                int[] horizontal = across.zeros().get(i);
                Kernel padded = link.kernel().padded(vertical[0], vertical[1], horizontal[0], horizontal[1]);
                Layer layer = link.layer().is("Conv")
                        ? ConvolutionMerge.padded(link.layer(), padded.height(), padded.width(), flat)
                        : link.layer();
                String output = edit.fresh(link.output() + ".border");
                layers.add(new Layer(
                                edit.fresh(layer.name() + ".border"),
                                layer.domain(),
                                layer.operator(),
                                layer.inputs(),
                                layer.outputs(),
                                layer.attributes(),
                                List.of())
                        .withInput(0, value)
                        .withOutput(output));
                value = output;
                height = padded.height().outputs(height);
                width = padded.width().outputs(width);
                multiplications += padded.outline().multiplications((long) height * width);
            }
            return value;
        }

        private String slice(Reach down, Reach across) {
            String input = part.getFirst().input();
            List<long[]> cuts = new ArrayList<>();
            if (!flat && down.input().length() < image.height()) {
                cuts.add(new long[] {2, down.input().from(), down.input().to()});
            }
            if (across.input().length() < image.width()) {
                cuts.add(new long[] {
                    flat ? 2 : 3, across.input().from(), across.input().to()
                });
            }
            if (cuts.isEmpty()) {
                return input;
            }
            String output = edit.fresh(input + ".part");
            layers.add(Layer.of(
                    edit.fresh(own + ".slice"),
                    "Slice",
                    List.of(input, longs("from", cuts, 1), longs("to", cuts, 2), longs("axes", cuts, 0)),
                    output,
                    Map.of()));
            return output;
        }

        private String longs(String word, List<long[]> cuts, int which) {
            long[] values = cuts.stream().mapToLong(cut -> cut[which]).toArray();
            MemorySegment data = MemorySegment.ofArray(new byte[values.length * Long.BYTES]);
            for (int i = 0; i < values.length; i++) {
                data.set(JAVA_LONG_UNALIGNED, (long) i * Long.BYTES, values[i]);
            }
            return edit.constant(own + "." + word, DType.I64, Shape.of(values.length), data);
        }

        /** Side by side, or one above the other. */
        String joined(boolean vertically, List<String> values, String output) {
            layers.add(Layer.of(
                    edit.fresh(own + ".join"),
                    "Concat",
                    values,
                    output,
                    Map.of("axis", new Attribute.Whole(vertically || flat ? 2 : 3))));
            return output;
        }
    }

    private Merge.Candidate ring(String name, List<Link> part, Outline total, Size image, Size outputs, long separate)
            throws NotMerged {
        if (graph.opset() < SLICE_OPSET) {
            throw new NotMerged("borders in separate steps need version " + SLICE_OPSET + " of ONNX's operators");
        }
        Rectangles counted = new Rectangles(part, total, null, image);
        boolean clean = drawn(counted, outputs);
        return new Merge.Candidate(name, clean ? Border.NONE : Border.RING, separate, counted.multiplications, () -> {
            Kernel kernel = part.getFirst().kernel();
            for (Link link : part.subList(1, part.size())) {
                kernel = kernel.then(link.kernel());
            }
            Rectangles made = new Rectangles(part, total, kernel, image);
            try {
                drawn(made, outputs);
            } catch (NotMerged e) {
                throw new IllegalStateException("what was counted can be made", e);
            }
            return new Merge.Change(
                            part.stream().map(Link::layer).toList(),
                            made.layers,
                            part.getFirst().input(),
                            part.getLast().output())
                    .in(graph, terms, made.edit, original -> original);
        });
    }

    /**
     * Puts rectangles side by side and above each other.
     *
     * @return whether there is one alone: the zeros are not read by any output
     */
    private static boolean drawn(Rectangles made, Size outputs) throws NotMerged {
        List<Kernel> kernels = made.part.stream().map(Link::kernel).toList();
        Range rows = clean(kernels.stream().map(Kernel::height).toList(), made.image.height());
        Range cols = clean(kernels.stream().map(Kernel::width).toList(), made.image.width());
        if (rows.length() == 0 || cols.length() == 0) {
            throw new NotMerged("all of its outputs are near the border");
        }
        String output = made.part.getLast().output();
        List<String> middle = new ArrayList<>();
        if (cols.from() > 0) {
            middle.add(made.separate(rows, new Range(0, cols.from())));
        }
        middle.add(made.merged(rows, cols));
        if (cols.to() < outputs.width()) {
            middle.add(made.separate(rows, new Range(cols.to(), outputs.width())));
        }
        boolean tall = rows.length() < outputs.height();
        boolean clean = !tall && middle.size() == 1;
        if (middle.size() > 1) {
            middle = List.of(made.joined(false, middle, tall ? made.edit.fresh(output + ".middle") : output));
        }
        if (tall) {
            Range all = new Range(0, outputs.width());
            List<String> stacked = new ArrayList<>();
            if (rows.from() > 0) {
                stacked.add(made.separate(new Range(0, rows.from()), all));
            }
            stacked.addAll(middle);
            if (rows.to() < outputs.height()) {
                stacked.add(made.separate(new Range(rows.to(), outputs.height()), all));
            }
            made.joined(true, stacked, output);
        }
        if (clean && made.kernel != null) {
            made.layers.add(made.layers.removeLast().withOutput(output));
        }
        return clean;
    }
}

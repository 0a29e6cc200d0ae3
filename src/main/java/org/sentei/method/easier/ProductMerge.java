package org.sentei.method.easier;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.IntToDoubleFunction;
import org.sentei.model.graph.Attribute;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.graph.Operation;
import org.sentei.model.graph.Operation.Arithmetic.Kind;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** Merges of products with constant matrices, and of what is added to and multiplied with their columns. */
final class ProductMerge {
    /** Elements of a merged matrix at most. */
    private static final long MOST_WEIGHTS = 1L << 25;

    private final LayerGraph graph;
    private final Merge.Terms terms;
    private final List<Merge.Candidate> candidates;

    /** Layers of activations that are spelled out, which runtimes know how to run as a whole. */
    private final Set<Layer> activations = new HashSet<>();

    ProductMerge(LayerGraph graph, Merge.Terms terms, List<Merge.Candidate> candidates) {
        this.graph = graph;
        Rectifiers.of(graph).all().forEach(rectifier -> activations.addAll(rectifier.layers()));
        this.terms = terms;
        this.candidates = candidates;
    }

    /**
     * {@code y = x weights + bias} of some layers.
     *
     * @param layer the product itself
     * @param rows columns of x
     * @param cols columns of y
     * @param before what happens to x, nearest to the product first
     * @param behind what happens to the product, in order
     */
    private record Product(
            List<Layer> layers,
            Layer layer,
            String input,
            String output,
            int rows,
            int cols,
            List<Line> before,
            List<Line> behind) {}

    /** A matrix and a row that is added, in fp64. */
    private static final class Matrix {
        private final int rows;
        private final int cols;
        private final double[] values;
        private final double[] bias;

        Matrix(int rows, int cols, double[] values, double[] bias) {
            this.rows = rows;
            this.cols = cols;
            this.values = values;
            this.bias = bias;
        }

        /** {@code scale y + shift} of what comes out, column by column. */
        Matrix behind(Line line) {
            double[] scaled = values.clone();
            double[] shifted = new double[cols];
            for (int col = 0; col < cols; col++) {
                for (int row = 0; row < rows; row++) {
                    scaled[row * cols + col] *= line.scale(col);
                }
                shifted[col] = bias[col] * line.scale(col) + line.shift(col);
            }
            return new Matrix(rows, cols, scaled, shifted);
        }

        /** Of {@code scale x + shift}. */
        Matrix before(Line line) {
            double[] scaled = values.clone();
            double[] shifted = bias.clone();
            for (int row = 0; row < rows; row++) {
                for (int col = 0; col < cols; col++) {
                    shifted[col] += line.shift(row) * values[row * cols + col];
                    scaled[row * cols + col] *= line.scale(row);
                }
            }
            return new Matrix(rows, cols, scaled, shifted);
        }

        /** This product and then the next: {@code W = W1 W2, b = b1 W2 + b2}. */
        Matrix then(Matrix next) {
            double[] product = new double[rows * next.cols];
            double[] sum = next.bias.clone();
            for (int middle = 0; middle < cols; middle++) {
                for (int col = 0; col < next.cols; col++) {
                    double factor = next.values[middle * next.cols + col];
                    sum[col] += bias[middle] * factor;
                    for (int row = 0; row < rows; row++) {
                        product[row * next.cols + col] += values[row * cols + middle] * factor;
                    }
                }
            }
            return new Matrix(rows, next.cols, product, sum);
        }

        boolean hasBias() {
            return Arrays.stream(bias).anyMatch(value -> value != 0);
        }
    }

    /** A number a column to multiply with and one to add. */
    private record Line(IntToDoubleFunction scales, IntToDoubleFunction shifts) {
        double scale(int column) {
            return scales.applyAsDouble(column);
        }

        double shift(int column) {
            return shifts.applyAsDouble(column);
        }
    }

    void propose() {
        List<Product> all = graph.layers().stream()
                .flatMap(layer -> product(layer).stream())
                .toList();
        Map<String, Product> byInput = new HashMap<>();
        Set<String> fed = new HashSet<>();
        all.forEach(product -> byInput.put(product.input(), product));
        for (Product product : all) {
            next(product, byInput).ifPresent(next -> fed.add(next.input()));
        }
        for (Product product : all) {
            if (!fed.contains(product.input())) {
                chain(product, byInput);
            }
        }
    }

    private Optional<Product> next(Product product, Map<String, Product> byInput) {
        return graph.onlyReader(product.output())
                .map(_ -> byInput.get(product.output()))
                .filter(next -> next.rows() == product.cols());
    }

    private void chain(Product first, Map<String, Product> byInput) {
        List<Product> products = new ArrayList<>(List.of(first));
        for (Optional<Product> next = next(first, byInput); next.isPresent(); next = next(next.get(), byInput)) {
            products.add(next.get());
        }
        for (int from = 0; from < products.size(); from++) {
            for (int to = from; to < products.size(); to++) {
                if ((long) products.get(from).rows() * products.get(to).cols() <= MOST_WEIGHTS) {
                    propose(products.subList(from, to + 1));
                }
            }
        }
    }

    /** A product with what is added and multiplied behind it, and before it where that is behind no other product. */
    private Optional<Product> product(Layer layer) {
        if (!(Operation.of(graph, layer) instanceof Operation.Linear(boolean inputsFirst))
                || !layer.captures().isEmpty()) {
            return Optional.empty();
        }
        Shape shape = graph.weight(layer.input(1)).orElseThrow().shape();
        int rows = Math.toIntExact(shape.dimension(inputsFirst ? 0 : 1));
        int cols = Math.toIntExact(shape.dimension(inputsFirst ? 1 : 0));
        if (layer.is("Gemm")
                && !layer.input(2).isEmpty()
                && !isRow(graph.weight(layer.input(2)).orElseThrow(), cols)) {
            return Optional.empty();
        }
        List<Layer> layers = new ArrayList<>(List.of(layer));
        List<Line> behind = new ArrayList<>();
        String output = layer.output();
        for (Optional<Layer> reader = graph.onlyReader(output); reader.isPresent(); reader = graph.onlyReader(output)) {
            Optional<Line> line = line(reader.get(), output, cols);
            if (line.isEmpty()) {
                break;
            }
            behind.add(line.get());
            layers.add(reader.get());
            output = reader.get().output();
        }
        String input = layer.input(0);
        List<Line> before = new ArrayList<>();
        while (graph.onlyReader(input).isPresent()) {
            Optional<Layer> maker = graph.producer(input);
            Optional<String> variable = maker.flatMap(this::variable);
            Optional<Line> line = variable.isEmpty() ? Optional.empty() : line(maker.get(), variable.get(), rows);
            if (line.isEmpty() || isBehindProduct(variable.get())) {
                break;
            }
            before.add(line.get());
            layers.addFirst(maker.get());
            input = variable.get();
        }
        return Optional.of(new Product(
                List.copyOf(layers), layer, input, output, rows, cols, List.copyOf(before), List.copyOf(behind)));
    }

    private Matrix weights(Product product) {
        Matrix matrix = matrix(product.layer(), product.rows(), product.cols());
        for (Line line : product.behind()) {
            matrix = matrix.behind(line);
        }
        for (Line line : product.before()) {
            matrix = matrix.before(line);
        }
        return matrix;
    }

    /** Whether sums and products with constants lead back to a product, which they belong to. */
    private boolean isBehindProduct(String value) {
        Optional<Layer> maker = graph.producer(value);
        while (maker.isPresent()) {
            if (Operation.of(graph, maker.get()) instanceof Operation.Linear) {
                return true;
            }
            maker = variable(maker.get()).flatMap(graph::producer);
        }
        return false;
    }

    /** What a sum or product with a constant is of. */
    private Optional<String> variable(Layer layer) {
        if (!(Operation.of(graph, layer) instanceof Operation.Arithmetic)
                || layer.inputs().size() != 2) {
            return Optional.empty();
        }
        boolean first = graph.weight(layer.input(0)).isPresent();
        boolean second = graph.weight(layer.input(1)).isPresent();
        return first == second ? Optional.empty() : Optional.of(layer.input(first ? 1 : 0));
    }

    private Matrix matrix(Layer layer, int rows, int cols) {
        float[] values = Floats.toArray(graph.weight(layer.input(1)).orElseThrow());
        boolean turned = layer.is("Gemm") && layer.whole("transB", 0) != 0;
        double[] matrix = new double[values.length];
        for (int i = 0; i < matrix.length; i++) {
            matrix[turned ? i % rows * cols + i / rows : i] = values[i];
        }
        double[] bias = new double[cols];
        if (layer.is("Gemm") && !layer.input(2).isEmpty()) {
            float[] terms = Floats.toArray(graph.weight(layer.input(2)).orElseThrow());
            for (int col = 0; col < cols; col++) {
                bias[col] = terms[terms.length == 1 ? 0 : col];
            }
        }
        return new Matrix(rows, cols, matrix, bias);
    }

    private static boolean isRow(Tensor tensor, int columns) {
        long[] shape = tensor.shape().toArray();
        return shape.length <= 2
                && (tensor.shape().elements() == 1
                        || (tensor.shape().elements() == columns && shape[shape.length - 1] == columns));
    }

    /** What a layer does to the columns of a value; empty where it does something else. */
    private Optional<Line> line(Layer layer, String value, int columns) {
        if (!layer.captures().isEmpty()
                || activations.contains(layer)
                || !(Operation.of(graph, layer) instanceof Operation.Arithmetic(Kind kind))
                || variable(layer).filter(value::equals).isEmpty()) {
            return Optional.empty();
        }
        boolean first = layer.input(0).equals(value);
        Tensor constant = graph.weight(layer.input(first ? 1 : 0)).orElseThrow();
        if (!isRow(constant, columns)) {
            return Optional.empty();
        }
        float[] numbers = Floats.toArray(constant);
        IntToDoubleFunction number = column -> numbers[numbers.length == 1 ? 0 : column];
        return switch (kind) {
            case ADD -> Optional.of(new Line(_ -> 1, number));
            case MUL -> Optional.of(new Line(number, _ -> 0));
            case SUB, DIV -> Optional.empty();
        };
    }

    private void propose(List<Product> part) {
        List<Layer> from =
                part.stream().flatMap(product -> product.layers().stream()).toList();
        boolean gemm = from.stream().anyMatch(layer -> layer.is("Gemm"));
        if (from.size() == 1
                || (from.size() == 2 && !gemm && part.getFirst().behind().size() == 1)) {
            return; // as short as it gets
        }
        Shape shape = terms.shapes().get(part.getFirst().input());
        long rows = shape == null || shape.rank() == 0 ? 1 : shape.elements() / shape.dimension(shape.rank() - 1);
        String name = String.join(
                " + ", part.stream().map(product -> product.layer().name()).toList());
        long separate = part.stream()
                .mapToLong(product -> rows * product.rows() * product.cols())
                .sum();
        long merged = rows * part.getFirst().rows() * part.getLast().cols();
        candidates.add(new Merge.Candidate(name, Merge.Border.NONE, separate, merged, () -> built(part, from, gemm)));
    }

    private Merge.Built built(List<Product> part, List<Layer> from, boolean gemm) {
        Matrix total = weights(part.getFirst());
        for (Product product : part.subList(1, part.size())) {
            total = total.then(weights(product));
        }
        String input = part.getFirst().input();
        String output = part.getLast().output();
        LayerGraph.Editor edit = graph.edit();
        String own = part.getLast().layer().name();
        String weights = edit.constant(
                own + ".merged_weight",
                DType.F32,
                Shape.of(total.rows, total.cols),
                MemorySegment.ofArray(Kernel.rounded(total.values)));
        List<Layer> to = new ArrayList<>();
        if (!total.hasBias()) {
            to.add(Layer.of(own, "MatMul", List.of(input, weights), output, Map.of()));
        } else {
            String bias = edit.constant(
                    own + ".merged_bias",
                    DType.F32,
                    Shape.of(total.cols),
                    MemorySegment.ofArray(Kernel.rounded(total.bias)));
            if (gemm) {
                to.add(Layer.of(own, "Gemm", List.of(input, weights, bias), output, Map.<String, Attribute>of()));
            } else {
                String unbiased = edit.fresh(output + ".unbiased");
                to.add(Layer.of(own, "MatMul", List.of(input, weights), unbiased, Map.of()));
                to.add(Layer.of(edit.fresh(own + ".bias"), "Add", List.of(unbiased, bias), output, Map.of()));
            }
        }
        return new Merge.Change(from, to, input, output).in(graph, terms, edit, original -> original);
    }
}

package org.sentei.engine;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.sentei.engine.recipe.Recipes;
import org.sentei.format.OnnxFile;
import org.sentei.kernel.Backend;
import org.sentei.method.quantize.OrtGraphs;
import org.sentei.model.graph.Attribute;
import org.sentei.model.graph.FloatParts;
import org.sentei.model.graph.IntegerExecutor;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** Small graphs of integers in QDQ form, with seeded weights, and what comes out of them. */
public final class IntegerGraphs {
    static final String RECIPE = """
            steps: [{method: quantize, format: %s, bias_correction: off}]
            calibration: {samples: 16}
            images: {order: gray, mean: 0.286, deviation: 0.353}
            """;

    /** How {@link #foreignBias} rounds its output. */
    static final float FOREIGN_SCALE = 0.02f;

    static final int FOREIGN_ZERO = 90;

    private static final int SAMPLES = 2;

    private final Random random = new Random(17);
    private final List<Layer> layers = new ArrayList<>();
    private final Map<String, Tensor> constants = new LinkedHashMap<>();
    private final List<String> integers = new ArrayList<>();
    /** Of values behind a DequantizeLinear. */
    private final Map<String, Float> scales = new HashMap<>();

    private final long[] shape;

    /**
     * A graph and what is known about it.
     *
     * @param integers values to compare
     * @param parts how many of its parts run in float
     * @param off levels that ONNX Runtime may be away from us, because it computes in float
     */
    public record Case(String name, LayerGraph graph, Shape shape, List<String> integers, int parts, int off) {
        /** Copies the list. */
        public Case {
            integers = List.copyOf(integers);
        }

        @Override
        public String toString() {
            return name;
        }

        /** Seeded inputs, and ONNX Runtime to run the graph in. */
        public OrtGraphs samples() {
            return new OrtGraphs(graph, SAMPLES, shape.toArray());
        }

        /** The integers of every sample on a backend. */
        public List<Map<String, Tensor>> run(Backend backend, OrtGraphs samples) {
            int[] opened = new int[1];
            OrtParts floats = new OrtParts(samples.file(), 1);
            FloatParts counted = part -> {
                opened[0]++;
                return floats.open(part);
            };
            List<Map<String, Tensor>> results = new ArrayList<>();
            try (IntegerExecutor executor = new IntegerExecutor(graph, backend, counted)) {
                if (opened[0] != parts) {
                    throw new AssertionError(name + ": " + opened[0] + " parts in float, not " + parts);
                }
                for (int i = 0; i < SAMPLES; i++) {
                    results.add(executor.run(List.of(samples.sample(i)), integers));
                }
            }
            return results;
        }
    }

    private IntegerGraphs(long... shape) {
        this.shape = shape;
    }

    /** A trained network of depthwise convolutions in integers. */
    public static Path network(Path out, String form) {
        Path resources = Path.of("src/test/resources/quantize");
        Runs.run(
                CompressionRequest.of(resources.resolve("depthwise.onnx"), Recipes.parse(RECIPE.formatted(form)))
                        .withCalibration(resources.resolve("calibration-images-idx3-ubyte.gz")),
                out);
        return out.resolve("depthwise.onnx");
    }

    /** The integers of every convolution in QLinearConv form of such a network, for an image of seeded noise. */
    public static Map<String, Tensor> run(Path network, Backend backend) {
        try (OnnxFile file = OnnxFile.open(network)) {
            LayerGraph graph = file.layers();
            List<String> integers = graph.layers().stream()
                    .filter(layer -> layer.is("QLinearConv"))
                    .map(Layer::output)
                    .toList();
            Random noise = new Random(19);
            float[] image = new float[28 * 28];
            for (int i = 0; i < image.length; i++) {
                image[i] = (float) noise.nextGaussian();
            }
            String input = graph.inputs().getFirst().name();
            Tensor tensor = new Tensor(input, DType.F32, Shape.of(1, 1, 28, 28), MemorySegment.ofArray(image));
            try (IntegerExecutor executor = new IntegerExecutor(graph, backend, new OrtParts(file, 1))) {
                return executor.run(List.of(tensor), integers);
            }
        }
    }

    /** All of them. */
    public static List<Case> all() {
        List<Case> cases = new ArrayList<>();
        for (DType type : List.of(DType.U8, DType.I8)) {
            cases.add(gemm(type, false, false));
            cases.add(gemm(type, true, true));
            cases.add(matrices(type));
            cases.add(concatenation(type));
            cases.add(means(type));
        }
        cases.add(wide());
        cases.add(shared());
        cases.add(functions());
        cases.add(foreignWeights());
        cases.add(clampedAwayFromTheLeast());
        cases.add(rowsAndChannels());
        cases.add(windowsWithPadding());
        cases.add(windowsWithoutThePadding());
        cases.add(axes());
        cases.add(network());
        cases.add(attention());
        cases.add(productsThatStayInFloat());
        return cases;
    }

    /** Odd sizes, per output scales, a bias or none, a Relu or none; the first of a kind saturates. */
    private static Case gemm(DType type, boolean transposed, boolean perOutput) {
        IntegerGraphs made = new IntegerGraphs(5, 37);
        String x = made.rounded("x", type, 0.012f, 7);
        Map<String, Attribute> how = Map.of("transB", new Attribute.Whole(transposed ? 1 : 0));
        String w = made.weight(transposed ? 0 : 1, perOutput, transposed ? new long[] {19, 37} : new long[] {37, 19});
        String y = made.layer("Gemm", how, x, w, made.bias(x, w, 19));
        y = made.rounded(made.layer("Relu", Map.of(), y), type, 0.021f, lowest(type));
        String v = made.weight(1, perOutput, 19, 3);
        String z = made.rounded(made.layer("Gemm", Map.of(), y, v), type, 0.013f, 10);
        return made.named("gemm " + type + (transposed ? " transposed" : ""), z, 0, 0);
    }

    /** Products of rank 2 to 4, batches of rows. */
    private static Case matrices(DType type) {
        IntegerGraphs made = new IntegerGraphs(2, 3, 5, 33);
        String x = made.rounded("x", type, 0.02f, -3 + (type == DType.U8 ? 128 : 0));
        String y = made.rounded(made.layer("MatMul", Map.of(), x, made.weight(1, true, 33, 21)), type, 0.05f, 64);
        String z = made.rounded(made.layer("MatMul", Map.of(), y, made.weight(1, false, 21, 17)), type, 0.07f, 9);
        return made.named("matmul " + type, z, 0, 0);
    }

    /** Large enough for what multiplies many rows and outputs at once. */
    private static Case wide() {
        IntegerGraphs made = new IntegerGraphs(2, 67, 64);
        String x = made.rounded("x", DType.U8, 0.02f, 127);
        String y = made.rounded(made.layer("MatMul", Map.of(), x, made.weight(1, true, 64, 144)), DType.U8, 0.05f, 128);
        String z = made.rounded(made.layer("MatMul", Map.of(), y, made.weight(1, true, 144, 32)), DType.U8, 0.07f, 90);
        return made.named("wide matmul", z, 0, 0);
    }

    /** Sums and products with one number a channel, or a channel and row, of every image. */
    private static Case shared() {
        IntegerGraphs made = new IntegerGraphs(2, 6, 5, 4);
        String x = made.rounded("x", DType.U8, 0.0217f, 120);
        String channel = made.rounded(made.layer("GlobalAveragePool", Map.of(), x), DType.U8, 0.0041f, 110);
        String row = made.rounded(made.layer("MatMul", Map.of(), x, made.weight(1, true, 4, 1)), DType.U8, 0.013f, 99);
        made.rounded(made.layer("Mul", Map.of(), channel, x), DType.U8, 0.0113f, 128);
        String sum = made.rounded(made.layer("Add", Map.of(), x, row), DType.U8, 0.0319f, 128);
        return made.named("shared", sum, 0, 1);
    }

    /** A sum with one number a channel and column, which is not that of neighbours. */
    static Case columns() {
        IntegerGraphs made = new IntegerGraphs(2, 6, 5, 4);
        String x = made.rounded("x", DType.U8, 0.0217f, 120);
        String column = made.layer("AveragePool", Map.of("kernel_shape", wholes(5, 1)), x);
        column = made.rounded(column, DType.U8, 0.0141f, 110);
        String sum = made.rounded(made.layer("Add", Map.of(), x, column), DType.U8, 0.0319f, 128);
        return made.named("columns", sum, 0, 0);
    }

    /** Functions of one number behind one another, with constants on both sides; a constant of rank 4 stays in float. */
    private static Case functions() {
        IntegerGraphs made = new IntegerGraphs(2, 9, 8, 7);
        String half = made.number(0.37f);
        String third = made.number(-0.61f, 1);
        String x = made.rounded("x", DType.U8, 0.0217f, 120);
        String a = made.layer("Mul", Map.of(), third, made.layer("Sub", Map.of(), half, x));
        a = made.layer("Div", Map.of(), made.layer("LeakyRelu", Map.of(), a), half);
        a = made.rounded(made.layer("Add", Map.of(), a, third), DType.U8, 0.0393f, 60);
        String b = made.rounded(made.layer("Sigmoid", Map.of(), a), DType.I8, 0.0041f, -128);
        String c = made.layer("Mul", Map.of(), b, made.number(1.3f, 1, 1, 1, 1));
        return made.named("functions", made.rounded(c, DType.U8, 0.0053f, 0), 1, 1);
    }

    private String number(float value, long... dimensions) {
        String name = "number" + constants.size();
        constants.put(
                name, new Tensor(name, DType.F32, Shape.of(dimensions), MemorySegment.ofArray(new float[] {value})));
        return name;
    }

    /** Weights whose zero point is not 0 are multiplied in float. */
    private static Case foreignWeights() {
        IntegerGraphs made = new IntegerGraphs(4, 30);
        String x = made.rounded("x", DType.U8, 0.02f, 127);
        String w = made.weight(1, false, 30, 23);
        String zero = made.producer(w).input(2);
        made.constants.put(zero, new Tensor(zero, DType.I8, Shape.of(), MemorySegment.ofArray(new byte[] {3})));
        String y = made.rounded(made.layer("Gemm", Map.of(), x, w), DType.U8, 0.02f, 128);
        return made.named("foreign weights", y, 1, 1);
    }

    /** A bias in units of its own is added in float; ONNX Runtime overlooks the units where it fuses. */
    static Case foreignBias() {
        IntegerGraphs made = new IntegerGraphs(4, 23);
        String x = made.rounded("x", DType.U8, FOREIGN_SCALE, FOREIGN_ZERO);
        String w = made.weight(1, true, 23, 11);
        String bias = made.bias(x, w, 11);
        String units = made.producer(bias).input(1);
        float[] halves = made.constants.get(units).data().toArray(ValueLayout.JAVA_FLOAT);
        for (int i = 0; i < halves.length; i++) {
            halves[i] /= 2;
        }
        made.constants.put(units, new Tensor(units, DType.F32, Shape.of(11), MemorySegment.ofArray(halves)));
        String y = made.layer("Gemm", Map.of(), x, w, bias);
        return made.named("foreign bias", made.rounded(y, DType.U8, FOREIGN_SCALE, FOREIGN_ZERO), 1, 0);
    }

    /** A product whose bias leaves no room for its sums. */
    static Case overflowing() {
        IntegerGraphs made = new IntegerGraphs(4, 30);
        String x = made.rounded("x", DType.U8, 0.02f, 127);
        String w = made.weight(1, false, 30, 2);
        String bias = made.bias(x, w, 2);
        String numbers = made.producer(bias).input(0);
        int[] large = {0, Integer.MAX_VALUE - 5};
        made.constants.put(numbers, new Tensor(numbers, DType.I32, Shape.of(2), MemorySegment.ofArray(large)));
        return made.named("overflow", made.rounded(made.layer("Gemm", Map.of(), x, w, bias), DType.U8, 0.1f, 0), 0, 0);
    }

    /** A QLinearConv whose bias is of a type that no sum has. */
    static Case biasOfFloats() {
        IntegerGraphs made = new IntegerGraphs(1, 2, 3, 3);
        String x = made.rounded("x", DType.U8, 0.02f, 127);
        Layer back = made.producer(x);
        Layer weight = made.producer(made.weight(0, false, 4, 2, 1, 1));
        made.constants.put(
                "bias", new Tensor("bias", DType.F32, Shape.of(4), MemorySegment.ofArray(new float[] {1, 2, 3, 4})));
        made.integers.add(made.layer(
                "QLinearConv",
                Map.of(),
                back.input(0),
                back.input(1),
                back.input(2),
                weight.input(0),
                weight.input(1),
                weight.input(2),
                back.input(1),
                back.input(2),
                "bias"));
        return made.named("bias of floats", made.integers.getLast(), 0, 0);
    }

    /** Rounded to integers of 16 bits. */
    static Case sixteenBits() {
        IntegerGraphs made = new IntegerGraphs(4, 8);
        String x = made.rounded("x", DType.U8, 0.02f, 127);
        String zero = made.producer(x).input(2);
        made.constants.put(zero, new Tensor(zero, DType.I16, Shape.of(), MemorySegment.ofArray(new byte[] {3, 0})));
        return made.named("16 bits", x, 0, 0);
    }

    /** A Relu whose zero is not the least integer, which ONNX Runtime computes in float. */
    private static Case clampedAwayFromTheLeast() {
        IntegerGraphs made = new IntegerGraphs(4, 18);
        String x = made.rounded("x", DType.U8, 0.02f, 120);
        String y = made.layer("Gemm", Map.of(), x, made.weight(1, true, 18, 35));
        String z = made.rounded(made.layer("Relu", Map.of(), y), DType.U8, 0.01f, 40);
        return made.named("clamp at 40", z, 0, 1);
    }

    /** The same value read by rows and by channels. */
    private static Case rowsAndChannels() {
        IntegerGraphs made = new IntegerGraphs(2, 6, 5, 5);
        String x = made.rounded("x", DType.U8, 0.02f, 128);
        String rows = made.rounded(made.layer("MatMul", Map.of(), x, made.weight(1, true, 5, 5)), DType.U8, 0.03f, 90);
        String channels = made.rounded(made.convolution(x, 6, 6, 1, 3, 1, 1, 1, 1), DType.U8, 0.04f, 130);
        String sum = made.rounded(made.layer("Mul", Map.of(), rows, channels), DType.U8, 0.05f, 120);
        return made.named("rows and channels", sum, 0, 0);
    }

    /** Values with other scales and zero points side by side, one of them twice. */
    private static Case concatenation(DType type) {
        IntegerGraphs made = new IntegerGraphs(2, 5, 4, 3);
        String x = made.rounded("x", type, 0.02f, 11);
        String a = made.rounded(made.convolution(x, 5, 7, 1, 1, 0, 0, 0, 0), type, 0.013f, 100);
        String b = made.rounded(made.convolution(x, 5, 5, 5, 3, 0, 1, 2, 1), type, 0.031f, 60);
        String y = made.layer("Concat", Map.of("axis", new Attribute.Whole(1)), a, x, b, a);
        return made.named("concat " + type, made.rounded(y, type, 0.017f, 33), 0, 0);
    }

    /** Means over everything and over windows. */
    private static Case means(DType type) {
        IntegerGraphs made = new IntegerGraphs(2, type == DType.U8 ? 19 : 20, 7, 5);
        String x = made.rounded("x", type, 0.015f, 50);
        made.rounded(made.layer("GlobalAveragePool", Map.of(), x), type, 0.0011f, 90);
        return made.named("global mean " + type, x, 0, 0);
    }

    /** Windows that lie apart, and windows over padding that counts. */
    private static Case windowsWithPadding() {
        IntegerGraphs made = new IntegerGraphs(2, 18, 7, 9);
        String x = made.rounded("x", DType.U8, 0.02f, 100);
        made.rounded(
                made.layer("AveragePool", Map.of("kernel_shape", wholes(3, 2), "strides", wholes(2, 1)), x),
                DType.U8,
                0.009f,
                90);
        made.rounded(
                made.layer(
                        "AveragePool",
                        Map.of(
                                "kernel_shape",
                                wholes(3, 3),
                                "pads",
                                wholes(0, 1, 2, 1),
                                "count_include_pad",
                                new Attribute.Whole(1)),
                        x),
                DType.U8,
                0.02f,
                80);
        made.rounded(made.layer("AveragePool", Map.of("kernel_shape", wholes(2, 2)), x), DType.I8, 0.013f, -5);
        return made.named("means of windows", x, 0, 1);
    }

    /** Where the divisor changes at the border, the mean stays in float. */
    private static Case windowsWithoutThePadding() {
        IntegerGraphs made = new IntegerGraphs(1, 6, 7, 9);
        String x = made.rounded("x", DType.U8, 0.02f, 100);
        made.rounded(
                made.layer("AveragePool", Map.of("kernel_shape", wholes(3, 3), "pads", wholes(1, 1, 1, 1)), x),
                DType.U8,
                0.009f,
                90);
        return made.named("means without padding", x, 1, 1);
    }

    /** Means over two axes, of a type that is not the input's. */
    private static Case axes() {
        IntegerGraphs made = new IntegerGraphs(2, 33, 3, 4);
        String x = made.rounded("x", DType.I8, 0.02f, 3);
        made.rounded(
                made.layer("ReduceMean", Map.of("axes", wholes(2, 3), "keepdims", new Attribute.Whole(1)), x),
                DType.U8,
                0.01f,
                128);
        return made.named("mean over axes", x, 0, 1);
    }

    /** From images to classes without a step in float. */
    private static Case network() {
        IntegerGraphs made = new IntegerGraphs(2, 3, 9, 11);
        String x = made.rounded("x", DType.U8, 0.02f, 128);
        String a = made.layer("Relu", Map.of(), made.convolution(x, 3, 17, 1, 3, 1, 0, 2, 1));
        a = made.rounded(a, DType.U8, 0.02f, 0);
        String b = made.rounded(made.convolution(a, 17, 17, 17, 3, 1, 1, 1, 1), DType.U8, 0.04f, 120);
        String c =
                made.rounded(made.layer("Concat", Map.of("axis", new Attribute.Whole(1)), a, b), DType.U8, 0.03f, 100);
        String d = made.rounded(made.layer("GlobalAveragePool", Map.of(), c), DType.U8, 0.007f, 110);
        String e = made.rounded(made.layer("Flatten", Map.of(), d), DType.U8, 0.007f, 110);
        String w = made.weight(0, true, 10, 34);
        String y = made.layer("Gemm", Map.of("transB", new Attribute.Whole(1)), e, w, made.bias(e, w, 10));
        y = made.rounded(y, DType.U8, 0.003f, 127);
        made.constants.put(
                "shape", new Tensor("shape", DType.I64, Shape.of(3), MemorySegment.ofArray(new long[] {0, -1, 5})));
        String moved = made.rounded(made.layer("Reshape", Map.of(), c, "shape"), DType.U8, 0.03f, 100);
        made.rounded(made.layer("MatMul", Map.of(), moved, made.weight(1, true, 5, 4)), DType.U8, 0.02f, 80);
        return made.named("network", y, 0, 0);
    }

    /** Products that are integers, and attention between them that is not. */
    private static Case attention() {
        IntegerGraphs made = new IntegerGraphs(2, 7, 24);
        String x = made.rounded("x", DType.U8, 0.02f, 128);
        String q = made.rounded(made.layer("MatMul", Map.of(), x, made.weight(1, true, 24, 16)), DType.U8, 0.04f, 128);
        String k = made.rounded(made.layer("MatMul", Map.of(), x, made.weight(1, true, 24, 16)), DType.U8, 0.04f, 128);
        String v = made.rounded(made.layer("MatMul", Map.of(), x, made.weight(1, true, 24, 24)), DType.U8, 0.04f, 128);
        String t = made.layer("Transpose", Map.of("perm", wholes(0, 2, 1)), k);
        String p = made.layer("Softmax", Map.of("axis", new Attribute.Whole(-1)), made.layer("MatMul", Map.of(), q, t));
        String o = made.rounded(made.layer("MatMul", Map.of(), p, v), DType.U8, 0.03f, 128);
        String y = made.rounded(made.layer("MatMul", Map.of(), o, made.weight(1, true, 24, 24)), DType.U8, 0.05f, 120);
        made.rounded(made.layer("Add", Map.of(), x, y), DType.U8, 0.0613f, 125);
        // Elsewhere products are summed in another order before they are rounded, which a level may turn on.
        return made.named("attention", y, 1, 1);
    }

    /** Without a rounding behind it, transposed on the left, or scaled. */
    private static Case productsThatStayInFloat() {
        IntegerGraphs made = new IntegerGraphs(6, 6);
        String x = made.rounded("x", DType.U8, 0.02f, 128);
        String a = made.layer("Gemm", Map.of("transA", new Attribute.Whole(1)), x, made.weight(1, true, 6, 6));
        a = made.rounded(a, DType.U8, 0.03f, 128);
        String b = made.layer("Gemm", Map.of("alpha", new Attribute.Decimal(0.5f)), a, made.weight(1, true, 6, 6));
        b = made.rounded(b, DType.U8, 0.02f, 128);
        String c = made.layer("Softmax", Map.of(), made.layer("MatMul", Map.of(), b, made.weight(1, true, 6, 6)));
        return made.named("float products", made.rounded(c, DType.U8, 0.004f, 0), 3, 1);
    }

    private static int lowest(DType type) {
        return type == DType.U8 ? 0 : -128;
    }

    private static Attribute wholes(long... values) {
        return new Attribute.Wholes(Arrays.stream(values).boxed().toList());
    }

    private String layer(String operator, Map<String, Attribute> attributes, String... inputs) {
        String name = operator + layers.size();
        layers.add(Layer.of(name, operator, List.of(inputs), name + ".y", attributes));
        return name + ".y";
    }

    /** A value as integers and back. */
    private String rounded(String real, DType type, float scale, int zero) {
        String name = real + ".rounded";
        constants.put(
                name + ".s",
                new Tensor(name + ".s", DType.F32, Shape.of(), MemorySegment.ofArray(new float[] {scale})));
        constants.put(
                name + ".z",
                new Tensor(name + ".z", type, Shape.of(), MemorySegment.ofArray(new byte[] {(byte) zero})));
        String integer = layer("QuantizeLinear", Map.of(), real, name + ".s", name + ".z");
        integers.add(integer);
        String back = layer("DequantizeLinear", Map.of(), integer, name + ".s", name + ".z");
        scales.put(back, scale);
        return back;
    }

    /** Constant weights with one scale, or one along an axis. */
    private String weight(int axis, boolean perOutput, long... dimensions) {
        String name = "w" + constants.size();
        Shape of = Shape.of(dimensions);
        byte[] numbers = new byte[(int) of.elements()];
        for (int i = 0; i < numbers.length; i++) {
            numbers[i] = (byte) (random.nextInt(255) - 127);
        }
        float[] scale = new float[perOutput ? (int) dimensions[axis] : 1];
        for (int i = 0; i < scale.length; i++) {
            scale[i] = (1 + random.nextFloat()) / (200 * (float) Math.sqrt(numbers.length / (double) dimensions[axis]));
        }
        Shape vector = perOutput ? Shape.of(scale.length) : Shape.of();
        constants.put(name, new Tensor(name, DType.I8, of, MemorySegment.ofArray(numbers)));
        constants.put(name + ".s", new Tensor(name + ".s", DType.F32, vector, MemorySegment.ofArray(scale)));
        constants.put(
                name + ".z", new Tensor(name + ".z", DType.I8, vector, MemorySegment.ofArray(new byte[scale.length])));
        return layer("DequantizeLinear", Map.of("axis", new Attribute.Whole(axis)), name, name + ".s", name + ".z");
    }

    private Layer producer(String value) {
        return layers.stream()
                .filter(layer -> layer.outputs().contains(value))
                .findFirst()
                .orElseThrow();
    }

    /** Constant 32-bit integers in units of products of x and w. */
    private String bias(String x, String w, int outputs) {
        Tensor of = constants.get(producer(w).input(1));
        float[] units = of.data().toArray(ValueLayout.JAVA_FLOAT);
        int[] numbers = new int[outputs];
        for (int i = 0; i < units.length; i++) {
            units[i] *= scales.get(x);
        }
        for (int i = 0; i < outputs; i++) {
            numbers[i] = random.nextInt(40_001) - 20_000;
        }
        String name = "b" + constants.size();
        constants.put(name, new Tensor(name, DType.I32, Shape.of(outputs), MemorySegment.ofArray(numbers)));
        constants.put(name + ".s", new Tensor(name + ".s", DType.F32, of.shape(), MemorySegment.ofArray(units)));
        return layer("DequantizeLinear", Map.of("axis", new Attribute.Whole(0)), name, name + ".s");
    }

    private String convolution(String x, int inputs, int outputs, int groups, int size, long... pads) {
        String w = weight(0, true, outputs, inputs / groups, size, size);
        return layer(
                "Conv", Map.of("group", new Attribute.Whole(groups), "pads", wholes(pads)), x, w, bias(x, w, outputs));
    }

    private Case named(String name, String output, int parts, int off) {
        LayerGraph graph = new LayerGraph(
                name,
                13,
                List.of(new LayerGraph.Port("x", DType.F32, List.of())),
                List.of(new LayerGraph.Port(output, DType.F32, List.of())),
                layers,
                constants);
        return new Case(name, graph, Shape.of(shape), integers, parts, off);
    }
}

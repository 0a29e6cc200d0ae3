package org.sentei.model.graph;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.OptionalLong;
import java.util.SplittableRandom;
import org.sentei.model.ModelException;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * Classifiers of small images, for who begins without a model. Every activation is a layer of its own. Input {@code image} is
 * batch x channels x rows x columns, output {@code scores} is batch x classes.
 */
public enum StandardNetwork {
    /** Three stages of 3x3 convolutions as in VGG (1409.1556) with batch normalization, a hidden linear layer: 8 ReLUs. */
    VGG {
        @Override
        void layers(Builder net, Sizes sizes) {
            int w = sizes.width();
            int inputs = sizes.channels();
            int[][] stages = {{w, w}, {2 * w, 2 * w}, {4 * w, 4 * w, 4 * w}};
            for (int s = 0; s < stages.length; s++) {
                for (int i = 0; i < stages[s].length; i++) {
                    net.convolution("stage" + s + "." + i, inputs, stages[s][i], 3, 1, 1);
                    net.relu("stage" + s + "." + i + ".relu");
                    inputs = stages[s][i];
                }
                if (s + 1 < stages.length) {
                    net.maxPool("stage" + s + ".pool");
                }
            }
            net.average(inputs);
            net.linear("hidden", inputs, 4 * w);
            net.relu("hidden.relu");
            net.linear("head", 4 * w, sizes.classes());
        }
    },
    /** ResNet-18 (1512.03385) with a 3x3 stem that keeps the size; every block has two ReLUs of its own: 17. */
    RESNET18 {
        @Override
        void layers(Builder net, Sizes sizes) {
            int w = sizes.width();
            net.convolution("stem", sizes.channels(), w, 3, 1, 1);
            net.relu("stem.relu");
            int inputs = w;
            for (int stage = 0; stage < 4; stage++) {
                int outputs = w << stage;
                for (int i = 0; i < 2; i++) {
                    String name = "stage" + stage + "." + i;
                    int stride = stage > 0 && i == 0 ? 2 : 1;
                    String before = net.last();
                    net.convolution(name + ".first", inputs, outputs, 3, stride, 1);
                    net.relu(name + ".relu1");
                    net.convolution(name + ".second", outputs, outputs, 3, 1, 1);
                    String made = net.last();
                    if (stride > 1 || inputs != outputs) {
                        net.from(before).convolution(name + ".shortcut", inputs, outputs, 1, stride, 1);
                        before = net.last();
                    }
                    net.sum(name + ".sum", made, before);
                    net.relu(name + ".relu2");
                    inputs = outputs;
                }
            }
            net.average(inputs);
            net.linear("head", inputs, sizes.classes());
        }
    },
    /** MobileNetV2 (1801.04381) with six blocks, two of which halve the size: 13 ReLU6. */
    MOBILENETV2 {
        @Override
        void layers(Builder net, Sizes sizes) {
            int w = sizes.width();
            net.convolution("stem", sizes.channels(), w, 3, 1, 1);
            net.relu6("stem.relu6");
            // Factor of the expansion, outputs, stride.
            int[][] blocks = {
                {1, w, 1}, {4, w + w / 2, 2}, {4, w + w / 2, 1}, {4, 2 * w, 2}, {4, 2 * w, 1}, {4, 3 * w, 1}
            };
            int inputs = w;
            for (int i = 0; i < blocks.length; i++) {
                String name = "block" + i;
                int inner = inputs * blocks[i][0];
                int outputs = blocks[i][1];
                int stride = blocks[i][2];
                String before = net.last();
                if (inner != inputs) {
                    net.convolution(name + ".expand", inputs, inner, 1, 1, 1);
                    net.relu6(name + ".expand.relu6");
                }
                net.convolution(name + ".depthwise", inner, inner, 3, stride, inner);
                net.relu6(name + ".depthwise.relu6");
                net.convolution(name + ".project", inner, outputs, 1, 1, 1);
                if (stride == 1 && inputs == outputs) {
                    net.sum(name + ".sum", net.last(), before);
                }
                inputs = outputs;
            }
            net.convolution("last", inputs, 8 * w, 1, 1, 1);
            net.relu6("last.relu6");
            net.average(8 * w);
            net.linear("head", 8 * w, sizes.classes());
        }
    },
    /** A vision transformer (2010.11929) over patches of 4 x 4: four blocks of 4 heads, the mean of all patches: 4 GELUs. */
    VIT {
        private static final int PATCH = 4;
        private static final int HEADS = 4;
        private static final int BLOCKS = 4;

        @Override
        void layers(Builder net, Sizes sizes) {
            if (sizes.rows() % PATCH != 0 || sizes.columns() % PATCH != 0) {
                throw new ModelException(
                        "vit: images of " + sizes.rows() + " x " + sizes.columns()
                                + " are no whole number of patches of 4 x 4; set height and width under images to multiples of 4");
            }
            int size = HEADS * sizes.width();
            long patches = (long) (sizes.rows() / PATCH) * (sizes.columns() / PATCH);
            net.patches("patches", sizes.channels(), size, PATCH);
            net.add("positions", net.drawn("positions.table", 0.02, patches, size));
            for (int i = 0; i < BLOCKS; i++) {
                attention(net, "block" + i + ".attention", size);
                String before = net.last();
                net.layerNorm("block" + i + ".mlp.norm", size);
                net.product("block" + i + ".mlp.in", size, 2 * size);
                net.gelu("block" + i + ".mlp.gelu");
                net.product("block" + i + ".mlp.out", 2 * size, size);
                net.sum("block" + i + ".mlp.sum", net.last(), before);
            }
            net.layerNorm("norm", size);
            net.layer("mean", "ReduceMean", Map.of("axes", wholes(1), "keepdims", new Attribute.Whole(0)));
            net.linear("head", size, sizes.classes());
        }

        private static void attention(Builder net, String name, int size) {
            String before = net.last();
            net.layerNorm(name + ".norm", size);
            String normed = net.last();
            String split = net.wholes(name + ".split", 0, 0, HEADS, size / HEADS);
            String query = head(net.from(normed), name + ".query", size, split, wholes(0, 2, 1, 3));
            String key = head(net.from(normed), name + ".key", size, split, wholes(0, 2, 3, 1));
            String value = head(net.from(normed), name + ".value", size, split, wholes(0, 2, 1, 3));
            net.layer(name + ".products", "MatMul", Map.of(), query, key);
            String scale = net.constant(name + ".scale", Shape.of(), (float) Math.sqrt((double) HEADS / size));
            net.layer(name + ".scaled", "Mul", Map.of(), net.last(), scale);
            net.layer(name + ".softmax", "Softmax", Map.of("axis", new Attribute.Whole(-1)));
            net.layer(name + ".heard", "MatMul", Map.of(), net.last(), value);
            net.layer(name + ".together", "Transpose", Map.of("perm", wholes(0, 2, 1, 3)));
            net.layer(name + ".joined", "Reshape", Map.of(), net.last(), net.wholes(name + ".join", 0, 0, size));
            net.product(name + ".out", size, size);
            net.sum(name + ".sum", net.last(), before);
        }

        private static String head(Builder net, String name, int size, String split, Attribute order) {
            net.product(name, size, size);
            net.layer(name + ".heads", "Reshape", Map.of(), net.last(), split);
            net.layer(name + ".turned", "Transpose", Map.of("perm", order));
            return net.last();
        }
    };

    private static final int OPSET = 17;
    private static final int WIDEST = 1 << 10;

    /**
     * Sizes of a network.
     *
     * @param channels of images
     * @param rows of images
     * @param columns of images
     * @param width channels of the first layers; the others are multiples of it
     */
    public record Sizes(int channels, int rows, int columns, int classes, int width) {
        /** A {@link ModelException} says what is out of range. */
        public Sizes {
            if (width < 1 || width > WIDEST) {
                throw new ModelException(
                        "width goes from 1 to " + WIDEST + ", not " + width + "; change it in the recipe");
            }
            if (classes < 2) {
                throw new ModelException(
                        "a classifier needs at least two classes, not " + classes + "; give other data");
            }
            if (channels < 1 || rows < 8 || columns < 8 || rows > WIDEST || columns > WIDEST) {
                throw new ModelException("images of " + channels + " x " + rows + " x " + columns
                        + " are too small or too large for these networks; set height and width from 8 to " + WIDEST);
            }
        }
    }

    abstract void layers(Builder net, Sizes sizes);

    /**
     * The network with first weights: of a normal distribution with variance {@code 2 / inputs} (He, 1502.01852), scales 1, shifts
     * and biases 0.
     *
     * @param seed of the weights
     */
    public LayerGraph build(Sizes sizes, long seed) {
        Builder net = new Builder(seed);
        layers(net, sizes);
        return net.graph(name().toLowerCase(Locale.ROOT), sizes);
    }

    private static Attribute wholes(long... values) {
        return new Attribute.Wholes(Arrays.stream(values).boxed().toList());
    }

    /** Layers one behind the other. */
    static final class Builder {
        private final SplittableRandom random;
        private final List<Layer> layers = new ArrayList<>();
        private final Map<String, Tensor> constants = new LinkedHashMap<>();
        private String last = "image";

        Builder(long seed) {
            random = new SplittableRandom(seed);
        }

        String last() {
            return last;
        }

        Builder from(String value) {
            last = value;
            return this;
        }

        /** A layer over the last value, or over the given ones. */
        void layer(String name, String operator, Map<String, Attribute> attributes, String... inputs) {
            layers.add(Layer.of(
                    name, operator, inputs.length == 0 ? List.of(last) : List.of(inputs), name + ".y", attributes));
            last = name + ".y";
        }

        /** A convolution without bias, then a batch normalization. */
        void convolution(String name, int inputs, int outputs, int size, int stride, int groups) {
            double deviation = Math.sqrt(2.0 / (inputs / groups * size * size));
            String weight = drawn(name + ".weight", deviation, outputs, inputs / groups, size, size);
            int pad = size / 2;
            layer(
                    name + ".conv",
                    "Conv",
                    Map.of(
                            "group",
                            new Attribute.Whole(groups),
                            "kernel_shape",
                            StandardNetwork.wholes(size, size),
                            "pads",
                            StandardNetwork.wholes(pad, pad, pad, pad),
                            "strides",
                            StandardNetwork.wholes(stride, stride)),
                    last,
                    weight);
            layer(
                    name + ".norm",
                    "BatchNormalization",
                    Map.of("epsilon", new Attribute.Decimal(1e-5f), "momentum", new Attribute.Decimal(0.9f)),
                    last,
                    filled(name + ".scale", 1, outputs),
                    filled(name + ".shift", 0, outputs),
                    filled(name + ".mean", 0, outputs),
                    filled(name + ".variance", 1, outputs));
        }

        /** Non-overlapping windows, one row a window: batch x windows x outputs. */
        void patches(String name, int inputs, int outputs, int size) {
            double deviation = Math.sqrt(1.0 / (inputs * size * size));
            layer(
                    name + ".conv",
                    "Conv",
                    Map.of(
                            "kernel_shape",
                            StandardNetwork.wholes(size, size),
                            "strides",
                            StandardNetwork.wholes(size, size)),
                    last,
                    drawn(name + ".weight", deviation, outputs, inputs, size, size),
                    filled(name + ".bias", 0, outputs));
            layer(name + ".flat", "Reshape", Map.of(), last, wholes(name + ".flat.shape", 0, 0, -1));
            layer(name + ".rows", "Transpose", Map.of("perm", StandardNetwork.wholes(0, 2, 1)));
        }

        void relu(String name) {
            layer(name, "Relu", Map.of());
        }

        void relu6(String name) {
            layer(
                    name,
                    "Clip",
                    Map.of(),
                    last,
                    constant(name + ".min", Shape.of(), 0),
                    constant(name + ".max", Shape.of(), 6));
        }

        /** {@code x (1 + erf(x / sqrt 2)) / 2}; as one operator it is too new for many runtimes. */
        void gelu(String name) {
            String x = last;
            layer(name + ".div", "Div", Map.of(), x, constant(name + ".root", Shape.of(), (float) Math.sqrt(2)));
            layer(name + ".erf", "Erf", Map.of());
            layer(name + ".add", "Add", Map.of(), last, constant(name + ".one", Shape.of(), 1));
            layer(name + ".mul", "Mul", Map.of(), x, last);
            layer(name + ".half", "Mul", Map.of(), last, constant(name + ".0.5", Shape.of(), 0.5f));
        }

        void maxPool(String name) {
            layer(
                    name,
                    "MaxPool",
                    Map.of("kernel_shape", StandardNetwork.wholes(2, 2), "strides", StandardNetwork.wholes(2, 2)));
        }

        void average(int channels) {
            layer("average", "GlobalAveragePool", Map.of());
            layer("flat", "Reshape", Map.of(), last, wholes("flat.shape", 0, channels));
        }

        void linear(String name, int inputs, int outputs) {
            layer(
                    name,
                    "Gemm",
                    Map.of("transB", new Attribute.Whole(1)),
                    last,
                    drawn(name + ".weight", Math.sqrt(2.0 / inputs), outputs, inputs),
                    filled(name + ".bias", 0, outputs));
        }

        /** A product with a matrix, and a bias. */
        void product(String name, int inputs, int outputs) {
            layer(name, "MatMul", Map.of(), last, drawn(name + ".weight", Math.sqrt(1.0 / inputs), inputs, outputs));
            add(name + ".biased", filled(name + ".bias", 0, outputs));
        }

        void layerNorm(String name, int size) {
            layer(
                    name,
                    "LayerNormalization",
                    Map.of("axis", new Attribute.Whole(-1), "epsilon", new Attribute.Decimal(1e-5f)),
                    last,
                    filled(name + ".scale", 1, size),
                    filled(name + ".shift", 0, size));
        }

        void add(String name, String constant) {
            layer(name, "Add", Map.of(), last, constant);
        }

        void sum(String name, String a, String b) {
            layer(name, "Add", Map.of(), a, b);
        }

        String drawn(String name, double deviation, long... shape) {
            float[] values = new float[Math.toIntExact(Shape.of(shape).elements())];
            for (int i = 0; i < values.length; i++) {
                values[i] = (float) (deviation * random.nextGaussian());
            }
            return constant(name, Shape.of(shape), values);
        }

        private String filled(String name, float value, int count) {
            float[] values = new float[count];
            Arrays.fill(values, value);
            return constant(name, Shape.of(count), values);
        }

        String constant(String name, Shape shape, float... values) {
            constants.put(name, new Tensor(name, DType.F32, shape, MemorySegment.ofArray(values)));
            return name;
        }

        String wholes(String name, long... values) {
            constants.put(name, new Tensor(name, DType.I64, Shape.of(values.length), MemorySegment.ofArray(values)));
            return name;
        }

        LayerGraph graph(String name, Sizes sizes) {
            Layer end = layers.removeLast();
            layers.add(end.withOutput("scores"));
            return new LayerGraph(
                    name,
                    OPSET,
                    List.of(new LayerGraph.Port(
                            "image",
                            DType.F32,
                            List.of(
                                    OptionalLong.empty(),
                                    OptionalLong.of(sizes.channels()),
                                    OptionalLong.of(sizes.rows()),
                                    OptionalLong.of(sizes.columns())))),
                    List.of(new LayerGraph.Port(
                            "scores", DType.F32, List.of(OptionalLong.empty(), OptionalLong.of(sizes.classes())))),
                    layers,
                    constants);
        }
    }
}

package org.sentei.method.quantize;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.Map;
import java.util.OptionalDouble;
import java.util.function.Predicate;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.sentei.method.quantize.Quantization.ActivationKind;
import org.sentei.method.quantize.Quantization.ActivationRange;
import org.sentei.method.quantize.Quantization.BiasCorrection;
import org.sentei.method.quantize.Quantization.Form;
import org.sentei.method.quantize.Quantization.Keep;
import org.sentei.method.quantize.Quantization.Smooth;
import org.sentei.method.quantize.Quantization.Unify;
import org.sentei.method.quantize.Quantization.WeightRange;
import org.sentei.method.quantize.Quantization.Weights;
import org.sentei.model.ModelException;
import org.sentei.model.graph.Attribute;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.Shape;

/** Whole quantizations of small graphs, run by ONNX Runtime. */
class QuantizeTest {
    /** A residual sum, a depthwise layer, values side by side, a pool, an unknown operator at the end. */
    private static LayerGraph network() {
        Graphs builder = Graphs.of().conv(8, 4, 3, 1, 1).norm(8).then("Relu");
        String trunk = builder.last();
        builder.conv(8, 8, 3, 8, 1).then("HardSwish").conv(8, 8, 1, 1, 0);
        builder.layer("sum", "Add", List.of(trunk, builder.last()), Map.of());
        String sum = builder.last();
        builder.conv(6, 8, 1, 1, 0).then("Relu");
        builder.layer("side", "Concat", List.of(sum, builder.last()), Map.of("axis", new Attribute.Whole(1)));
        builder.layer(
                "pool",
                "MaxPool",
                List.of(builder.last()),
                Map.of(
                        "kernel_shape",
                        new Attribute.Wholes(List.of(2L, 2L)),
                        "strides",
                        new Attribute.Wholes(List.of(2L, 2L))));
        return builder.conv(5, 14, 1, 1, 0).then("Tanh").build(4, 8);
    }

    @ParameterizedTest
    @EnumSource(Form.class)
    void everyFormRunsWithTheSignalToNoiseThatIsReported(Form form) {
        LayerGraph graph = network();
        try (OrtGraphs runner = new OrtGraphs(graph, 16, 1, 4, 8, 8)) {
            Quantize.Result result =
                    run(graph, how(form, ActivationRange.MINMAX, BiasCorrection.OFF), runner, _ -> true);
            double measured = decibels(runner.outputs(graph), runner.outputs(result.graph()));

            assertThat(result.stages().getLast().signalToNoise()).isGreaterThan(30);
            assertThat(Math.abs(measured - result.stages().getLast().signalToNoise()))
                    .isLessThan(4);
            assertThat(result.layers())
                    .hasSize(5)
                    .allSatisfy(layer ->
                            assertThat(layer.signalToNoise().orElseThrow()).isGreaterThan(25));
            assertThat(result.inFloat()).contains("Tanh12 (Tanh)");
            List<String> operators =
                    result.graph().layers().stream().map(Layer::operator).toList();
            assertThat(operators).contains(form == Form.QLINEAR ? "QLinearConv" : "Conv");
            if (form == Form.QLINEAR) {
                // the Relu before Concat shares a scale whose zero is not its smallest number, so it is no clamp
                assertThat(operators).containsOnlyOnce("Conv", "Relu");
            }
            if (form == Form.TENSORRT) {
                assertThat(result.graph().constants().values())
                        .filteredOn(tensor -> tensor.name().endsWith("_zero"))
                        .isNotEmpty()
                        .allSatisfy(zero -> assertThat(zero.data().toArray(ValueLayout.JAVA_BYTE))
                                .containsOnly(0));
            }
        }
    }

    @ParameterizedTest
    @EnumSource(ActivationRange.class)
    void everyRuleForRangesLeavesTheNetworkWhatItIs(ActivationRange rule) {
        LayerGraph graph = network();
        try (OrtGraphs runner = new OrtGraphs(graph, 12, 1, 4, 8, 8)) {
            Quantize.Result result = run(graph, how(Form.QDQ, rule, BiasCorrection.OFF), runner, _ -> true);
            assertThat(result.stages().getLast().signalToNoise()).isGreaterThan(15);
        }
    }

    @ParameterizedTest
    @EnumSource(BiasCorrection.class)
    void correctedBiasesTakeTheMeanErrorAway(BiasCorrection correction) {
        LayerGraph graph = Graphs.of()
                .conv(8, 4, 1, 1, 0)
                .norm(8)
                .then("Relu")
                .conv(6, 8, 1, 1, 0)
                .build(4, 8);
        try (OrtGraphs runner = new OrtGraphs(graph, 32, 1, 4, 8, 8)) {
            Quantization coarse = new Quantization(
                    Keep.ALL,
                    true,
                    false,
                    false,
                    false,
                    Smooth.OFF,
                    Weights.TENSOR,
                    WeightRange.PERCENTILE,
                    false,
                    ActivationKind.AFFINE,
                    ActivationRange.MINMAX,
                    80,
                    List.of(),
                    correction,
                    false,
                    false,
                    Form.QDQ);
            Quantize.Result result = run(graph, coarse, runner, _ -> true);
            double bias = meanError(runner.outputs(graph), runner.outputs(result.graph()), 6, 64);
            switch (correction) {
                case OFF -> assertThat(bias).isGreaterThan(0.02);
                // the constants' seeded normalization is not that of the data, so its means are only near
                case ANALYTIC -> assertThat(result.stages().getLast().pass()).contains("analytic");
                case EMPIRICAL -> assertThat(bias).isLessThan(0.01);
            }
        }
    }

    @Test
    void aMaskSurvivesEveryPass() {
        LayerGraph graph = network();
        LayerGraph.Editor edit = graph.edit();
        long zeros = 0;
        for (Layer layer : graph.layers()) {
            if (layer.is("Conv")) {
                WeightMatrix weights = WeightMatrix.of(graph, layer).orElseThrow();
                for (int o = 0; o < weights.outputs(); o++) {
                    for (int tap = o % 3; tap < weights.fanIn(); tap += 3) {
                        weights.set(o, tap, 0);
                        zeros++;
                    }
                }
                weights.store(edit);
            }
        }
        LayerGraph pruned = edit.build();
        try (OrtGraphs runner = new OrtGraphs(pruned, 8, 1, 4, 8, 8)) {
            Quantization all = new Quantization(
                    Keep.ALL,
                    true,
                    true,
                    true,
                    true,
                    Smooth.INSERTED,
                    Weights.CHANNEL,
                    WeightRange.MSE,
                    true,
                    ActivationKind.AFFINE,
                    ActivationRange.KL,
                    99.99,
                    List.of(Unify.ADD, Unify.CONCAT),
                    BiasCorrection.EMPIRICAL,
                    false,
                    false,
                    Form.QDQ);
            Quantize.Result result = run(pruned, all, runner, _ -> true);
            assertThat(result.layers().stream()
                            .mapToLong(Quantize.LayerResult::zerosBefore)
                            .sum())
                    .isEqualTo(zeros);
            assertThat(result.layers())
                    .allSatisfy(layer -> assertThat(layer.zerosAfter()).isGreaterThanOrEqualTo(layer.zerosBefore()));
            assertThat(result.notes()).anyMatch(note -> note.contains("statistics are not corrected"));
        }
    }

    @Test
    void valuesSideBySideShareOneScale() {
        LayerGraph graph = network();
        try (OrtGraphs runner = new OrtGraphs(graph, 4, 1, 4, 8, 8)) {
            LayerGraph integers = run(
                            graph, how(Form.QDQ, ActivationRange.MINMAX, BiasCorrection.OFF), runner, _ -> true)
                    .graph();
            float joined = integers.scalar("side.y_scale").orElseThrow();
            assertThat(integers.scalar("sum.y_scale")).hasValue(joined);
            assertThat(integers.scalar("pool.y_scale")).hasValue(joined);
        }
    }

    @Test
    void noNumberIsSpentWhereAHardSwishTellsNothingApart() {
        LayerGraph graph = Graphs.of()
                .conv(8, 4, 1, 1, 0)
                .then("Mul", 40)
                .then("HardSwish")
                .conv(6, 8, 1, 1, 0)
                .build(4, 8);
        try (OrtGraphs runner = new OrtGraphs(graph, 8, 1, 4, 8, 8)) {
            LayerGraph integers = run(
                            graph, how(Form.QDQ, ActivationRange.MINMAX, BiasCorrection.OFF), runner, _ -> true)
                    .graph();
            float scale = integers.scalar("Mul1.y_scale").orElseThrow();
            int zero = integers.constants().get("Mul1.y_zero").data().get(ValueLayout.JAVA_BYTE, 0) & 0xff;
            assertThat(zero * scale).isBetween(3 - scale, 3 + scale);
            assertThat((255 - zero) * scale).isGreaterThan(30);
        }
    }

    @Test
    void layersThatAreLeftOutStayAsTheyAre() {
        LayerGraph graph = network();
        try (OrtGraphs runner = new OrtGraphs(graph, 4, 1, 4, 8, 8)) {
            Quantize.Result result = run(
                    graph,
                    how(Form.QLINEAR, ActivationRange.MINMAX, BiasCorrection.OFF),
                    runner,
                    name -> !name.equals("conv5"));
            assertThat(result.inFloat()).contains("conv5 (Conv)");
            assertThat(result.layers()).hasSize(4);
            assertThatThrownBy(() ->
                            run(graph, how(Form.QDQ, ActivationRange.MINMAX, BiasCorrection.OFF), runner, _ -> false))
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("no layer to quantize");
        }
    }

    @Test
    void passesThatDoHarmAreUndone() {
        // a bound at 0.3 is what this network is about
        LayerGraph graph = Graphs.of()
                .conv(8, 4, 1, 1, 0)
                .then("Clip", 0, 0.3f)
                .conv(6, 8, 1, 1, 0)
                .build(4, 8);
        try (OrtGraphs runner = new OrtGraphs(graph, 8, 1, 4, 8, 8)) {
            Quantize.Result kept = run(graph, Quantization.RECOMMENDED, runner, _ -> true);
            assertThat(kept.notes()).anyMatch(note -> note.startsWith("relu6 and equalize left out: "));
            assertThat(kept.graph().layers()).extracting(Layer::operator).contains("Clip");
            assertThat(kept.stages()).extracting(Quantize.Stage::pass).contains("relu6", "equalize");
        }
    }

    @Test
    void whatCannotBeQuantizedIsAClearError() {
        LayerGraph small = Graphs.of()
                .conv(2, 1, 1, 1, 0)
                .constant("conv0.w", Shape.of(2, 1, 1, 1), 1e-41f)
                .build(1, 2);
        LayerGraph old = new LayerGraph("old", 9, small.inputs(), small.outputs(), small.layers(), small.constants());
        try (OrtGraphs runner = new OrtGraphs(small, 4, 1, 1, 2, 2)) {
            assertThatThrownBy(() -> run(old, Quantization.RECOMMENDED, runner, _ -> true))
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("version 9")
                    .hasMessageContaining("11 to");
        }
        try (OrtGraphs none = new OrtGraphs(small, 0, 1, 1, 2, 2)) {
            assertThatThrownBy(() -> run(small, Quantization.RECOMMENDED, none, _ -> true))
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("no calibration sample");
        }
        LayerGraph infinite = Graphs.of()
                .conv(2, 1, 1, 1, 0)
                .then("Mul", Float.MAX_VALUE)
                .then("Mul", Float.MAX_VALUE)
                .conv(2, 2, 1, 1, 0)
                .build(1, 2);
        try (OrtGraphs runner = new OrtGraphs(infinite, 4, 1, 1, 2, 2)) {
            Quantization unfolded = new Quantization(
                    Keep.ALL,
                    false,
                    false,
                    false,
                    false,
                    Smooth.OFF,
                    Weights.CHANNEL,
                    WeightRange.MAX,
                    false,
                    ActivationKind.AFFINE,
                    ActivationRange.MINMAX,
                    99.99,
                    List.of(),
                    BiasCorrection.OFF,
                    false,
                    false,
                    Form.QDQ);
            assertThatThrownBy(() -> run(infinite, unfolded, runner, _ -> true))
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("calibration data");
        }
    }

    private static Quantize.Result run(
            LayerGraph graph, Quantization how, GraphRunner runner, Predicate<String> targeted) {
        return Quantize.run(graph, how, targeted, runner, _ -> OptionalDouble.empty(), _ -> {});
    }

    private static Quantization how(Form form, ActivationRange range, BiasCorrection correction) {
        return new Quantization(
                Keep.ALL,
                true,
                true,
                true,
                true,
                Smooth.INSERTED,
                Weights.CHANNEL,
                WeightRange.MAX,
                false,
                form == Form.TENSORRT ? ActivationKind.SYMMETRIC : ActivationKind.AFFINE,
                range,
                99.99,
                List.of(Unify.CONCAT),
                correction,
                false,
                false,
                form);
    }

    private static double decibels(float[] dense, float[] rounded) {
        double signal = 0;
        double noise = 0;
        for (int i = 0; i < dense.length; i++) {
            signal += (double) dense[i] * dense[i];
            noise += Math.pow((double) dense[i] - rounded[i], 2);
        }
        return 10 * Math.log10(signal / noise);
    }

    /** Largest mean error of a channel. */
    private static double meanError(float[] dense, float[] rounded, int channels, int area) {
        double[] sums = new double[channels];
        for (int i = 0; i < dense.length; i++) {
            sums[i / area % channels] += (double) rounded[i] - dense[i];
        }
        double largest = 0;
        for (double sum : sums) {
            largest = Math.max(largest, Math.abs(sum) * channels / dense.length);
        }
        return largest;
    }
}

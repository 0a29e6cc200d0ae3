package org.sentei.method.easier;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.apache.commons.numbers.gamma.Erf;
import org.junit.jupiter.api.Test;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.method.easier.Rectifier.Units;
import org.sentei.method.quantize.Graphs;
import org.sentei.method.quantize.OrtGraphs;
import org.sentei.model.ModelException;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

class LinearizationTest {
    private static final int SAMPLES = 2_000_000;

    /** Phi. */
    private static double cumulative(double x) {
        return (1 + Erf.value(x / Math.sqrt(2))) / 2;
    }

    private static Tensor tensor(Shape shape, float... values) {
        return new Tensor("z", DType.F32, shape, MemorySegment.ofArray(values));
    }

    @Test
    void theSlopeOfAGaussiansReluIsTheShareThatIsOn() {
        // Stein: E psi'(z) = P(z > 0); errors of C7
        double[][] cases = {{-1, 0.0433}, {-2, 0.0052}, {2, 0.0052}, {0, Double.NaN}};
        for (double[] given : cases) {
            Random random = new Random(7);
            float[] z = new float[SAMPLES];
            float[] y = new float[SAMPLES];
            for (int i = 0; i < SAMPLES; i++) {
                z[i] = (float) (given[0] + random.nextGaussian());
                y[i] = Math.max(z[i], 0);
            }
            Linearization.Fit fit = new Linearization.Fit(new Units.Last());
            fit.add(tensor(Shape.of(SAMPLES, 1), z), tensor(Shape.of(SAMPLES, 1), y));
            Linearization line = fit.line();
            assertThat(line.scale(0)).isEqualTo(cumulative(given[0]), within(1e-3));
            double error = 0;
            for (int i = 0; i < SAMPLES; i++) {
                double off = y[i] - line.scale(0) * z[i] - line.shift(0);
                error += off * off / SAMPLES;
            }
            if (!Double.isNaN(given[1])) {
                assertThat(error).isEqualTo(given[1], within(3e-4));
            }
        }
    }

    @Test
    void sumsDoNotDependOnBatchesOrTheOffset() {
        Random random = new Random(1);
        float[] z = new float[60];
        float[] y = new float[60];
        for (int i = 0; i < 60; i++) {
            z[i] = 1000 + (float) random.nextGaussian();
            y[i] = 3 * z[i] - 7;
        }
        Linearization.Fit fit = new Linearization.Fit(new Units.Channels(1));
        for (int half = 0; half < 2; half++) {
            fit.add(
                    tensor(Shape.of(3, 2, 5), Arrays.copyOfRange(z, 30 * half, 30 * half + 30)),
                    tensor(Shape.of(3, 2, 5), Arrays.copyOfRange(y, 30 * half, 30 * half + 30)));
        }
        for (int unit = 0; unit < 2; unit++) {
            assertThat(fit.line().scale(unit)).isEqualTo(3, within(1e-3));
            assertThat(fit.line().shift(unit)).isEqualTo(-7, within(1.0));
        }
    }

    @Test
    void aConstantInputGivesTheMean() {
        Linearization.Fit fit = new Linearization.Fit(new Units.Last());
        fit.add(tensor(Shape.of(3, 1), -0.1f, -0.1f, -0.1f), tensor(Shape.of(3, 1), 0, 0, 0));
        assertThat(fit.line().scale(0)).isEqualTo(0);
        assertThat(fit.line().shift(0)).isEqualTo(0);
        fit.add(tensor(Shape.of(1, 1), Float.POSITIVE_INFINITY), tensor(Shape.of(1, 1), Float.POSITIVE_INFINITY));
        assertThatThrownBy(fit::line).isInstanceOf(ModelException.class).hasMessageContaining("not finite");
        assertThatThrownBy(() -> new Linearization.Fit(new Units.Last()).line())
                .isInstanceOf(ModelException.class)
                .hasMessageContaining("never run");
        assertThatThrownBy(() -> fit.add(tensor(Shape.of(1, 2), 1, 2), tensor(Shape.of(1, 2), 1, 2)))
                .isInstanceOf(ModelException.class)
                .hasMessageContaining("had 1 units and now has 2");
    }

    @Test
    void theIdentityLeavesNothingBehind() {
        LayerGraph graph = Graphs.of()
                .conv(6, 4, 1, 1, 0)
                .then("Relu")
                .conv(6, 6, 3, 6, 1)
                .then("Relu")
                .build(4, 5);
        List<Rectifier> all = Rectifiers.of(graph).all();
        LayerGraph linear = Linearization.identity(6).applyTo(graph, all.getFirst());
        assertThat(linear.layers()).extracting(Layer::operator).containsExactly("Conv", "Conv", "Relu");
        // the model's output keeps its name
        LayerGraph both = Linearization.identity(6)
                .applyTo(linear, Rectifiers.of(linear).all().getFirst());
        assertThat(both.layers()).extracting(Layer::operator).containsExactly("Conv", "Conv", "Identity");
        assertThat(both.outputs()).isEqualTo(graph.outputs());
    }

    @Test
    void aFittedLineStandsWhereTheActivationWas() {
        Graphs gelu = Graphs.of().conv(6, 4, 1, 1, 0);
        String x = gelu.last();
        gelu.then("Div", 1.4142135f).then("Erf").then("Add", 1);
        gelu.layer("gated", "Mul", List.of(x, gelu.last()), Map.of()).then("Mul", 0.5f);
        gelu.conv(3, 6, 3, 1, 1);
        LayerGraph graph = gelu.build(4, 5);
        Rectifier rectifier = Rectifiers.of(graph).all().getFirst();
        try (OrtGraphs run = new OrtGraphs(graph, 3, 1, 4, 5, 5)) {
            float[] z = run.values(graph, rectifier.input());
            float[] y = run.values(graph, rectifier.output());
            Linearization.Fit fit = new Linearization.Fit(rectifier.units());
            fit.add(tensor(Shape.of(3, 6, 5, 5), z), tensor(Shape.of(3, 6, 5, 5), y));
            Linearization line = fit.line();
            LayerGraph linear = line.applyTo(graph, rectifier);
            assertThat(linear.layers()).extracting(Layer::operator).containsExactly("Conv", "Mul", "Add", "Conv");
            String made = linear.layers().get(2).output();
            float[] fitted = run.values(linear, made);
            for (int i = 0; i < z.length; i++) {
                int unit = i / 25 % 6;
                assertThat((double) fitted[i]).isEqualTo(line.scale(unit) * z[i] + line.shift(unit), within(1e-5));
            }
        }
    }

    @Test
    void theSignZeroesUnitsThatAreMoreOftenOff() {
        try (Backend backend = Backends.find("reference").open(Backend.Options.defaults());
                Entropy entropy = new Entropy("relu", new Units.Last(), Entropy.Rule.DEFAULT, backend)) {
            entropy.add(tensor(Shape.of(3, 3), -1, 1, 1, -1, 1, -1, 1, -1, 0));
            Linearization line = Linearization.sign(entropy.measured());
            assertThat(List.of(line.scale(0), line.scale(1), line.scale(2))).containsExactly(0.0, 1.0, 1.0);
            assertThat(line.shift(0)).isEqualTo(0);
        }
    }
}

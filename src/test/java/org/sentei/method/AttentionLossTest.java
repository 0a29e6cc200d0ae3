package org.sentei.method;

import static org.assertj.core.api.Assertions.assertThat;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.method.AttentionLayers.Form;
import org.sentei.method.AttentionLoss.Change;

/** Loss, gradient and saliency of attention matrices against their definitions. */
class AttentionLossTest {
    private final Backend backend = AvailableBackends.open("reference");
    private Scope scope;

    @BeforeEach
    void open() {
        scope = new Scope(backend);
    }

    @AfterEach
    void close() {
        scope.close();
        backend.close();
    }

    private AttentionLoss loss(Form form, double turn, int windows, int perBatch) {
        return new AttentionLoss(
                AttentionLayers.layer(form, turn, scope),
                AttentionLayers.inputs(form, windows, 1, scope),
                perBatch,
                scope);
    }

    private View moved(View from, View along, double step) {
        float[] values = AttentionLayers.host(from, scope);
        float[] direction = AttentionLayers.host(along, scope);
        for (int i = 0; i < values.length; i++) {
            values[i] += (float) (step * direction[i]);
        }
        return AttentionLayers.upload(values, from.rows(), from.cols(), scope);
    }

    private static double sum(double[] losses) {
        return Arrays.stream(losses).sum();
    }

    private double dot(View a, View b) {
        float[] x = AttentionLayers.host(a, scope);
        float[] y = AttentionLayers.host(b, scope);
        double dot = 0;
        for (int i = 0; i < x.length; i++) {
            dot += (double) x[i] * y[i];
        }
        return dot;
    }

    @ParameterizedTest
    @CsvSource({
        "2, 2, 4, 7, false, 0, false, false, false",
        "2, 2, 4, 7, true, 0, true, false, false",
        "4, 2, 6, 9, true, 0, true, true, false",
        "4, 1, 4, 9, true, 3, false, true, false",
        "4, 2, 6, 9, true, 0, true, true, true",
        "2, 2, 4, 1, true, 0, true, true, true"
    })
    void theGradientIsThatOfTheLoss(
            int heads,
            int keyHeads,
            int size,
            int length,
            boolean causal,
            int window,
            boolean bias,
            boolean rotary,
            boolean norm) {
        Form form = new Form(heads, keyHeads, size, length, causal, window, bias, rotary, norm);
        AttentionLoss loss = loss(form, 0.7, 5, 2);
        Random random = new Random(2);
        int rows = heads * size;
        int keyRows = keyHeads * size;
        View query = AttentionLayers.normal(random, rows, AttentionLayers.WIDTH, scope);
        View key = AttentionLayers.normal(random, keyRows, AttentionLayers.WIDTH, scope);
        View alongQuery = AttentionLayers.normal(random, rows, AttentionLayers.WIDTH, scope);
        View alongKey = AttentionLayers.normal(random, keyRows, AttentionLayers.WIDTH, scope);
        View queryGradient = scope.matrix(rows, AttentionLayers.WIDTH);
        View keyGradient = scope.matrix(keyRows, AttentionLayers.WIDTH);
        double[] losses = loss.gradient(
                new Change(query, null), new Change(key, null), queryGradient, keyGradient, 0, loss.batches());
        assertThat(losses).containsExactly(loss.loss(new Change(query, null), new Change(key, null)));
        double step = 2e-3;
        double up = sum(loss.loss(
                new Change(moved(query, alongQuery, step), null), new Change(moved(key, alongKey, step), null)));
        double down = sum(loss.loss(
                new Change(moved(query, alongQuery, -step), null), new Change(moved(key, alongKey, -step), null)));
        double slope = dot(queryGradient, alongQuery) + dot(keyGradient, alongKey);
        double measured = (up - down) / (2 * step);
        assertThat(Math.abs(slope - measured) <= 1e-4 * (Math.abs(measured) + 0.1 * sum(losses)))
                .as("%s by the gradient, %s by differences", slope, measured)
                .isTrue();
        if (length == 1) {
            assertThat(losses).containsOnly(0);
        } else {
            assertThat(sum(losses)).isPositive();
        }
    }

    @ParameterizedTest
    @CsvSource({"true, 0, true", "false, 0, false", "true, 3, true"})
    void theErrorIsThatOfTheMatrices(boolean causal, int window, boolean norm) {
        Form form = new Form(4, 2, 6, 9, causal, window, true, true, norm);
        AttentionLoss loss = loss(form, 0.7, 1, 1);
        Random random = new Random(2);
        Change query = new Change(
                AttentionLayers.normal(random, 24, AttentionLayers.WIDTH, scope),
                AttentionLayers.normal(random, 1, 24, scope));
        double all = 0;
        double whole = 0;
        double[] losses = loss.loss(query, null);
        for (int head = 0; head < 4; head++) {
            float[] dense = loss.matrix(head, null, null);
            float[] pruned = loss.matrix(head, query, null);
            double difference = 0;
            double energy = 0;
            for (int i = 0; i < dense.length; i++) {
                difference += Math.pow(dense[i] - pruned[i], 2);
                energy += Math.pow(dense[i], 2);
                boolean seen = !causal || (i % 9 <= i / 9 && (window == 0 || i % 9 > i / 9 - window));
                assertThat(dense[i] > 0).isEqualTo(seen);
            }
            assertThat(Math.abs(loss.errors(losses)[head] - Math.sqrt(difference / energy)) <= 1e-5)
                    .isTrue();
            all += difference;
            whole += energy;
        }
        assertThat(Math.abs(loss.error(query, null) - Math.sqrt(all / whole)) <= 1e-5)
                .isTrue();
    }

    @Test
    void withoutARotationRotaryChangesNothing() {
        Form plain = new Form(4, 2, 6, 9, true, 0, true, false, false);
        Form rotary = new Form(4, 2, 6, 9, true, 0, true, true, false);
        Change query = new Change(AttentionLayers.normal(new Random(2), 24, AttentionLayers.WIDTH, scope), null);
        assertThat(loss(rotary, 0, 3, 2).loss(query, null))
                .containsExactly(loss(plain, 0, 3, 2).loss(query, null));
        assertThat(loss(rotary, 0.7, 3, 2).loss(query, null))
                .isNotEqualTo(loss(plain, 0, 3, 2).loss(query, null));
    }

    /** {@code L = h e^2 / 2} for a mask that is 1 - e at one weight: differences keep that many digits. */
    @ParameterizedTest
    @CsvSource({"false, false", "true, false", "true, true"})
    void theSaliencyIsTheCurvatureAtTheDenseWeights(boolean rotary, boolean norm) {
        Form form = new Form(2, 1, 4, 6, true, 0, true, rotary, norm);
        AttentionLoss loss = loss(form, 0.7, 400, 100);
        AttentionLoss.Saliency saliency = loss.saliency(400, 1);
        AttentionLoss.Layer layer = AttentionLayers.layer(form, 0.7, scope);
        assertThat(worst(loss, layer.query().weight(), saliency.query(), true)).isLessThan(0.5);
        assertThat(worst(loss, layer.key().weight(), saliency.key(), false)).isLessThan(0.5);
    }

    /** Largest relative distance between estimate and curvature; their means must agree within an eighth. */
    private double worst(AttentionLoss loss, View weight, MemorySegment estimate, boolean query) {
        float[] w = AttentionLayers.host(weight, scope);
        double step = 1e-2;
        double worst = 0;
        double estimated = 0;
        double all = 0;
        for (int i = 0; i < w.length; i++) {
            float[] difference = new float[w.length];
            difference[i] = (float) (-step * w[i]);
            Change change = new Change(AttentionLayers.upload(difference, weight.rows(), weight.cols(), scope), null);
            double curvature = 2 * sum(query ? loss.loss(change, null) : loss.loss(null, change)) / (step * step);
            double found = estimate.getAtIndex(ValueLayout.JAVA_FLOAT, i);
            worst = Math.max(worst, Math.abs(found - curvature) / curvature);
            estimated += found;
            all += curvature;
        }
        assertThat(Math.abs(estimated / all - 1) <= 0.125)
                .as("%s of %s", estimated, all)
                .isTrue();
        return worst;
    }
}

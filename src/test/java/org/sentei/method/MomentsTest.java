package org.sentei.method;

import static org.assertj.core.api.Assertions.assertThat;

import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;

class MomentsTest {
    private static final int ROWS = 20_000;
    private static final int COLS = 5;

    private static List<String> backends() {
        return AvailableBackends.names();
    }

    @ParameterizedTest
    @MethodSource("backends")
    void theVarianceOfFarOffChannelsSurvivesAnyBatchSplit(String backend) {
        double[] offsets = {0, 1, 10, 100, 1000};
        SplittableRandom random = new SplittableRandom(8);
        float[] values = new float[ROWS * COLS];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) (offsets[i % COLS] + random.nextGaussian());
        }
        double[] exact = exactVariance(values);
        try (Backend device = AvailableBackends.open(backend);
                Scope scope = new Scope(device)) {
            for (int batch : new int[] {ROWS, 1, 7, 1000, 4096}) {
                Moments.Collector collector = new Moments.Collector(scope, COLS);
                View view = scope.matrix(batch, COLS);
                for (int row = 0; row < ROWS; row += batch) {
                    int rows = Math.min(batch, ROWS - row);
                    View part = view.rows(0, rows);
                    device.copyIn(MemorySegment.ofArray(values).asSlice(4L * row * COLS, 4L * rows * COLS), part);
                    collector.add(part);
                }
                Moments moments = collector.moments();
                assertThat(moments.count()).isEqualTo(ROWS);
                assertThat(moments.isFinite()).isTrue();
                for (int col = 0; col < COLS; col++) {
                    double error = Math.abs(moments.variance(col) / exact[col] - 1);
                    assertThat(error)
                            .as("batch %d, mean/std %s", batch, offsets[col])
                            .isLessThan(offsets[col] > 100 ? 1e-3 : 1e-5);
                }
            }
        }
    }

    @ParameterizedTest
    @MethodSource("backends")
    void aNaNInTheInputIsSeenInTheMoments(String backend) {
        try (Backend device = AvailableBackends.open(backend);
                Scope scope = new Scope(device)) {
            View view = scope.matrix(2, 3);
            device.copyIn(MemorySegment.ofArray(new float[] {1, 2, 3, 4, Float.NaN, 6}), view);
            Moments.Collector collector = new Moments.Collector(scope, 3);
            collector.add(view);
            assertThat(collector.moments().isFinite()).isFalse();
        }
    }

    private static double[] exactVariance(float[] values) {
        double[] variance = new double[COLS];
        for (int col = 0; col < COLS; col++) {
            double mean = 0;
            for (int row = 0; row < ROWS; row++) {
                mean += values[row * COLS + col] / (double) ROWS;
            }
            for (int row = 0; row < ROWS; row++) {
                double deviation = values[row * COLS + col] - mean;
                variance[col] += deviation * deviation / (ROWS - 1);
            }
        }
        return variance;
    }
}

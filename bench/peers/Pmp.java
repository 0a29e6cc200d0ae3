import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.Op;
import org.sentei.kernel.Scope;
import org.sentei.kernel.SoftHistogram;
import org.sentei.kernel.SoftHistogram.Bins;
import org.sentei.kernel.SoftHistogram.Mass;
import org.sentei.kernel.SoftHistogramGradient;
import org.sentei.kernel.View;
import org.sentei.model.GraphNetwork;
import org.sentei.model.SkeletonInference;
import org.sentei.tensor.DType;

/**
 * See pmp.sh. Arguments: {@code histogram VALUES BINS} or {@code skeletons RATE BATCH}; prints median milliseconds, one thread.
 */
final class Pmp {
    private static final int WARM = 20;
    private static final int ROUNDS = 101;

    public static void main(String[] args) {
        try (Backend backend = Backends.find("cpu").open(new Backend.Options(0, 1));
                Scope scope = new Scope(backend)) {
            switch (args[0]) {
                case "histogram" -> histogram(scope, Integer.parseInt(args[1]), Integer.parseInt(args[2]));
                case "skeletons" -> skeletons(scope, Double.parseDouble(args[1]), Integer.parseInt(args[2]));
                default -> throw new IllegalArgumentException(args[0]);
            }
        }
    }

    private static void histogram(Scope scope, int count, int bins) {
        SplittableRandom random = new SplittableRandom(1);
        float[] values = new float[count];
        for (int i = 0; i < count; i++) {
            values[i] = (float) random.nextGaussian();
        }
        View latents = scope.matrix(1, count);
        scope.backend().copyIn(MemorySegment.ofArray(values), latents);
        float spacing = 8f / (bins - 1);
        Bins places = new Bins(-4, spacing, bins, spacing);
        View mass = scope.zeros(DType.F64, 1, bins);
        View outside = scope.zeros(DType.I64, 1, 1);
        View slope = scope.zeros(DType.F32, 1, bins);
        View gradient = scope.matrix(1, count);
        Op forward = new SoftHistogram(latents, places, Mass.BUMPS, mass, outside);
        Op backward = new SoftHistogramGradient(latents, places, Mass.BUMPS, slope, gradient);
        Backend backend = scope.backend();
        System.out.printf("%.4f ", milliseconds(() -> backend.run(forward)));
        System.out.printf(
                "%.4f%n",
                milliseconds(() -> {
                    backend.run(forward);
                    backend.run(backward);
                }));
    }

    /** The reference network of a skeleton with 15 joints, of whose weights a share is 0. */
    private static void skeletons(Scope scope, double rate, int batch) {
        GraphNetwork.Skeletons network = new GraphNetwork.Skeletons(15, 8, 4, 16, 32, 8);
        SplittableRandom random = new SplittableRandom(1);
        List<float[]> parameters = new ArrayList<>();
        for (GraphNetwork.Parameter parameter : network.parameters()) {
            float[] values = new float[parameter.count()];
            for (int i = 0; i < values.length; i++) {
                boolean pruned = parameter.prunable() && random.nextDouble() < rate;
                values[i] = pruned ? 0 : (float) random.nextGaussian();
            }
            parameters.add(values);
        }
        float[] signals = new float[batch * 15 * network.signal()];
        for (int i = 0; i < signals.length; i++) {
            signals[i] = (float) random.nextGaussian();
        }
        try (SkeletonInference dense = SkeletonInference.dense(scope, network, parameters, batch);
                SkeletonInference sparse = SkeletonInference.sparse(scope, network, parameters, batch)) {
            float[] expected = dense.scores(signals);
            float[] scores = sparse.scores(signals);
            for (int i = 0; i < scores.length; i++) {
                if (!(Math.abs(scores[i] - expected[i]) <= 1e-4 * (1 + Math.abs(expected[i])))) {
                    throw new IllegalStateException("score " + i + " is " + scores[i] + ", not " + expected[i]);
                }
            }
            System.out.printf("%.4f %.4f%n", milliseconds(dense::run), milliseconds(sparse::run));
        }
    }

    private static double milliseconds(Runnable work) {
        double[] taken = new double[ROUNDS];
        for (int round = -WARM; round < ROUNDS; round++) {
            long start = System.nanoTime();
            work.run();
            if (round >= 0) {
                taken[round] = (System.nanoTime() - start) / 1e6;
            }
        }
        Arrays.sort(taken);
        return taken[ROUNDS / 2];
    }
}

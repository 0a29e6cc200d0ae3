import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.SplittableRandom;
import org.sentei.kernel.Attention;
import org.sentei.kernel.AttentionResidual;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.Cast;
import org.sentei.kernel.Gemm;
import org.sentei.kernel.Op;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.tensor.DType;

/**
 * Loss and gradient by the masked query and key weights of a layer, timed: two projections of differences, the residual, two
 * products with the inputs. Arguments: threads, rounds, then {@code length heads size causal} again and again. Prints a line a
 * shape with the median of the rounds in milliseconds, after a second of rounds that are not counted.
 */
final class AttentionResidualTimes {
    /** The first rounds run while the virtual machine compiles: nanoseconds. */
    private static final long WARM_UP = 1_000_000_000;

    private AttentionResidualTimes() {}

    public static void main(String[] args) {
        int threads = Integer.parseInt(args[0]);
        int rounds = Integer.parseInt(args[1]);
        for (int i = 2; i < args.length; i += 4) {
            int length = Integer.parseInt(args[i]);
            int heads = Integer.parseInt(args[i + 1]);
            int size = Integer.parseInt(args[i + 2]);
            boolean causal = args[i + 3].equals("causal");
            System.out.printf(
                    "%d %d %d %s %.2f%n",
                    length, heads, size, args[i + 3], time(threads, rounds, length, heads, size, causal));
        }
    }

    private static double time(int threads, int rounds, int length, int heads, int size, boolean causal) {
        int width = heads * size;
        SplittableRandom random = new SplittableRandom(1);
        try (Backend backend = Backends.find("cpu").open(new Backend.Options(0, threads));
                Scope scope = new Scope(backend)) {
            View x = normal(scope, random, length, width, 1);
            View transposed = scope.matrix(width, length);
            backend.run(new Cast(x, transposed, true));
            View query = normal(scope, random, length, width, 1);
            View key = normal(scope, random, length, width, 1);
            // (M - 1) o W of masks near 1, outputs x inputs.
            View queryWeights = normal(scope, random, width, width, 0.1 / Math.sqrt(width));
            View keyWeights = normal(scope, random, width, width, 0.1 / Math.sqrt(width));
            View queryDifference = scope.matrix(length, width);
            View keyDifference = scope.matrix(length, width);
            View queryGradient = scope.matrix(length, width);
            View keyGradient = scope.matrix(length, width);
            View queryWeightsGradient = scope.matrix(width, width);
            View keyWeightsGradient = scope.matrix(width, width);
            View loss = scope.matrix(DType.F64, 1, heads);
            backend.copyIn(MemorySegment.ofArray(new double[heads]), loss);
            Attention.Geometry geometry =
                    new Attention.Geometry(heads, heads, size, length, (float) (1 / Math.sqrt(size)), causal, 0);
            Op[] iteration = {
                new Gemm(x, queryWeights, true, null, queryDifference, false),
                new Gemm(x, keyWeights, true, null, keyDifference, false),
                new AttentionResidual(
                        query, key, queryDifference, keyDifference, null, loss, queryGradient, keyGradient, geometry),
                new Gemm(transposed, queryGradient, false, null, queryWeightsGradient, false),
                new Gemm(transposed, keyGradient, false, null, keyWeightsGradient, false)
            };
            long begin = System.nanoTime();
            while (System.nanoTime() - begin < WARM_UP) {
                time(backend, iteration);
            }
            double[] times = new double[rounds];
            for (int round = 0; round < rounds; round++) {
                times[round] = time(backend, iteration);
            }
            Arrays.sort(times);
            return times[rounds / 2];
        }
    }

    private static double time(Backend backend, Op[] iteration) {
        long start = System.nanoTime();
        for (Op op : iteration) {
            backend.run(op);
        }
        backend.sync();
        return (System.nanoTime() - start) / 1e6;
    }

    private static View normal(Scope scope, SplittableRandom random, int rows, int cols, double spread) {
        float[] values = new float[rows * cols];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) (spread * random.nextGaussian());
        }
        View view = scope.matrix(rows, cols);
        scope.backend().copyIn(MemorySegment.ofArray(values), view);
        return view;
    }
}

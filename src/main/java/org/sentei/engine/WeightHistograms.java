package org.sentei.engine;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.LongStream;
import org.sentei.engine.report.Report;
import org.sentei.model.Site;
import org.sentei.model.TensorSource;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Tensor;

/**
 * How the weights of a site are distributed before and after, read on the host from the files themselves: what is counted is
 * what was written.
 *
 * <p>Bins reach from minus to plus a power of two, so that histograms of several sites add up without splitting a bin.
 */
final class WeightHistograms {
    private static final int HALF = Report.Weights.BINS / 2;
    /** Elements read at a time. */
    private static final int CHUNK = 1 << 16;

    private static final int LANES = 4;
    /** Every how many elements the spread is sampled. */
    private static final int STRIDE = 31;
    /** The range holds at least so many root mean squares: all but 0.3 % of normally distributed weights. */
    private static final double SPREADS = 3;

    private static final ValueLayout.OfFloat FLOAT =
            ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfShort SHORT =
            ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private final float[] values = new float[CHUNK];
    private final short[] bits = new short[CHUNK];

    private WeightHistograms() {}

    /** The histograms of these sites, in their order, counted by so many threads. */
    static List<Report.Weights> of(List<Site> sites, TensorSource before, TensorSource after, int threads) {
        try (ExecutorService counters = Executors.newFixedThreadPool(threads)) {
            Object reading = new Object(); // sources open files as they are asked
            List<Future<Report.Weights>> histograms = sites.stream()
                    .map(site -> counters.submit(() -> {
                        Tensor old;
                        Tensor now;
                        synchronized (reading) {
                            old = before.tensor(site.weight());
                            now = after.tensor(site.weight());
                        }
                        return new WeightHistograms().of(site, old, now);
                    }))
                    .toList();
            return histograms.stream().map(OwnThread::await).toList();
        }
    }

    private Report.Weights of(Site site, Tensor old, Tensor now) {
        double limit = limit(old);
        long[] was = count(old, limit);
        long[] is = count(now, limit);
        old.release();
        now.release();
        return new Report.Weights(
                site.name(), limit, was[Report.Weights.BINS], is[Report.Weights.BINS], bins(was), bins(is));
    }

    /** The smallest power of two above {@link #SPREADS} root mean squares of what is not zero; 1 when all that was seen is. */
    private static double limit(Tensor tensor) {
        double squares = 0;
        long count = 0;
        for (long i = 0; i < tensor.shape().elements(); i += STRIDE) {
            double value = Floats.get(tensor.dtype(), tensor.data(), i);
            squares += value * value;
            count += value == 0 ? 0 : 1;
        }
        double reach = count == 0 ? 0 : SPREADS * Math.sqrt(squares / count);
        return reach > 0 && reach < Float.MAX_VALUE ? Math.scalb(1.0, Math.getExponent(reach) + 1) : 1;
    }

    /** The values bin by bin, and behind them the zeros of either sign. */
    private long[] count(Tensor tensor, double limit) {
        // Neighbours count into different lanes: two in one bin would wait for each other.
        int[] counts = new int[LANES * (Report.Weights.BINS + 1)];
        long[] bins = new long[Report.Weights.BINS + 1];
        double scale = HALF / limit;
        long elements = tensor.shape().elements();
        for (long first = 0; first < elements; first += CHUNK) {
            int length = (int) Math.min(CHUNK, elements - first);
            read(tensor.dtype(), tensor.data(), first, length);
            count(values, length, scale, counts);
            for (int i = 0; i < counts.length; i++) {
                bins[i / LANES] += counts[i];
                counts[i] = 0;
            }
        }
        return bins;
    }

    private static void count(float[] values, int length, double scale, int[] counts) {
        for (int i = 0; i < length; i++) {
            int bin = Math.min(Math.max((int) (values[i] * scale + HALF), 0), Report.Weights.BINS - 1);
            counts[(values[i] == 0 ? Report.Weights.BINS : bin) * LANES + (i & (LANES - 1))]++;
        }
    }

    private static List<Long> bins(long[] counts) {
        return LongStream.of(counts).limit(Report.Weights.BINS).boxed().toList();
    }

    private void read(DType dtype, MemorySegment data, long first, int length) {
        switch (dtype) {
            case F32 -> MemorySegment.copy(data, FLOAT, first * Float.BYTES, values, 0, length);
            case BF16 -> {
                MemorySegment.copy(data, SHORT, first * Short.BYTES, bits, 0, length);
                for (int i = 0; i < length; i++) {
                    values[i] = Floats.fromBfloat16(bits[i]);
                }
            }
            case F16 -> {
                MemorySegment.copy(data, SHORT, first * Short.BYTES, bits, 0, length);
                for (int i = 0; i < length; i++) {
                    values[i] = Float.float16ToFloat(bits[i]);
                }
            }
            default -> {
                for (int i = 0; i < length; i++) {
                    double value = Floats.get(dtype, data, first + i);
                    // no zero where there is none in the file
                    values[i] = value != 0 && (float) value == 0
                            ? (float) Math.copySign(Float.MIN_VALUE, value)
                            : (float) value;
                }
            }
        }
    }
}

package org.sentei.backend.reference;

import java.util.Arrays;
import java.util.function.LongToDoubleFunction;
import java.util.stream.IntStream;
import org.sentei.kernel.Activate;
import org.sentei.kernel.Aggregate;
import org.sentei.kernel.ApplyMask;
import org.sentei.kernel.Attention;
import org.sentei.kernel.AttentionResidual;
import org.sentei.kernel.BandStop;
import org.sentei.kernel.Cast;
import org.sentei.kernel.ColumnMoments;
import org.sentei.kernel.CombineInt8;
import org.sentei.kernel.Conv2dInt8;
import org.sentei.kernel.CountValues;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.DeviceInfo;
import org.sentei.kernel.Embedding;
import org.sentei.kernel.Gemm;
import org.sentei.kernel.Gemv;
import org.sentei.kernel.Gram;
import org.sentei.kernel.HostAllocator;
import org.sentei.kernel.HostBackend;
import org.sentei.kernel.Int8Filters;
import org.sentei.kernel.InverseCholesky;
import org.sentei.kernel.LayerNorm;
import org.sentei.kernel.Levels;
import org.sentei.kernel.Lookup;
import org.sentei.kernel.MaskDifference;
import org.sentei.kernel.MaskStep;
import org.sentei.kernel.MaxPoolInt8;
import org.sentei.kernel.ObsSweep;
import org.sentei.kernel.Op;
import org.sentei.kernel.QuadraticForm;
import org.sentei.kernel.Quantize;
import org.sentei.kernel.RmsNorm;
import org.sentei.kernel.RmsNormGradient;
import org.sentei.kernel.Rotary;
import org.sentei.kernel.ScoreHistogram;
import org.sentei.kernel.ScoreSelect;
import org.sentei.kernel.ScoreSelect.Selection;
import org.sentei.kernel.SoftHistogram;
import org.sentei.kernel.SoftHistogramGradient;
import org.sentei.kernel.SparseGemv;
import org.sentei.kernel.StateCounts;
import org.sentei.kernel.View;
import org.sentei.kernel.Window;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;

/**
 * Runs every op as its definition says. Sums are fp64 and rounded once to the output's type; nothing here is fast.
 */
final class ReferenceBackend extends HostBackend {
    static final String NAME = "reference";

    ReferenceBackend(long memoryBytes) {
        super(NAME, HostAllocator.JAVA, memoryBytes);
    }

    @Override
    public DeviceInfo info() {
        return new DeviceInfo(
                NAME,
                "Java virtual machine",
                "Java " + Runtime.version(),
                Runtime.getRuntime().maxMemory(),
                "");
    }

    @Override
    protected void execute(Op op) {
        switch (op) {
            case Activate activate -> activate(activate);
            case Aggregate aggregate -> aggregate(aggregate);
            case ApplyMask apply -> applyMask(apply);
            case Attention attention -> attention(attention);
            case AttentionResidual residual -> attentionResidual(residual);
            case BandStop filter -> bandStop(filter);
            case Cast cast -> cast(cast);
            case ColumnMoments moments -> columnMoments(moments);
            case CombineInt8 combine -> combineInt8(combine);
            case Conv2dInt8 conv -> conv2dInt8(conv);
            case CountValues count -> countValues(count);
            case Embedding embedding -> embedding(embedding);
            case Gemm gemm -> gemm(gemm);
            case Gemv gemv -> gemv(gemv);
            case Gram gram -> gram(gram);
            case InverseCholesky factor -> inverseCholesky(factor);
            case LayerNorm norm -> layerNorm(norm);
            case Lookup lookup -> lookup(lookup);
            case MaskDifference difference -> maskDifference(difference);
            case MaskStep step -> maskStep(step);
            case MaxPoolInt8 pool -> maxPoolInt8(pool);
            case ObsSweep sweep -> obsSweep(sweep);
            case QuadraticForm form -> quadraticForm(form);
            case Quantize quantize -> quantize(quantize);
            case RmsNorm norm -> rmsNorm(norm);
            case RmsNormGradient norm -> rmsNormGradient(norm);
            case Rotary rotary -> rotary(rotary);
            case ScoreHistogram histogram -> scoreHistogram(histogram);
            case ScoreSelect select -> scoreSelect(select);
            case SoftHistogram histogram -> softHistogram(histogram);
            case SoftHistogramGradient gradient -> softHistogramGradient(gradient);
            case SparseGemv gemv -> sparseGemv(gemv);
            case StateCounts counts -> stateCounts(counts);
        }
    }

    private static void activate(Activate op) {
        Matrix x = new Matrix(op.x());
        Matrix multiplier = op.multiplier() == null ? null : new Matrix(op.multiplier());
        Matrix y = new Matrix(op.y());
        for (long i = 0; i < x.rows(); i++) {
            for (long j = 0; j < x.cols(); j++) {
                double value = activation(op.function(), x.get(i, j));
                y.set(i, j, multiplier == null ? value : value * multiplier.get(i, j));
            }
        }
    }

    private static double activation(Activate.Function function, double x) {
        return switch (function) {
            case RELU -> Math.max(x, 0);
            case GELU -> x * (0.5 * ErrorFunction.complement(-x / Math.sqrt(2)));
            case GELU_TANH -> 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)));
            case SILU -> x / (1 + Math.exp(-x));
        };
    }

    private static void aggregate(Aggregate op) {
        Matrix starts = new Matrix(op.starts());
        Matrix neighbours = new Matrix(op.neighbours());
        Matrix weights = new Matrix(op.weights());
        Matrix x = new Matrix(op.x());
        Matrix y = new Matrix(op.y());
        for (long i = 0; i < y.rows(); i++) {
            long begin = starts.getLong(0, i);
            long end = starts.getLong(0, i + 1);
            if (begin < 0 || end < begin || end > weights.cols()) {
                throw op.broken(NAME);
            }
            double[] sums = new double[Math.toIntExact(y.cols())];
            for (long edge = begin; edge < end; edge++) {
                int neighbour = neighbours.getInt(0, edge);
                if (neighbour < 0 || neighbour >= x.rows()) {
                    throw op.broken(NAME);
                }
                for (int j = 0; j < sums.length; j++) {
                    sums[j] += weights.get(0, edge) * x.get(neighbour, j);
                }
            }
            for (int j = 0; j < sums.length; j++) {
                y.set(i, j, sums[j]);
            }
        }
    }

    private static void applyMask(ApplyMask op) {
        Matrix weights = new Matrix(op.weights());
        Matrix mask = new Matrix(op.mask());
        Matrix mean = op.mean() == null ? null : new Matrix(op.mean());
        Matrix bias = op.bias() == null ? null : new Matrix(op.bias());
        for (long i = 0; i < weights.rows(); i++) {
            double shift = 0;
            for (long j = 0; j < weights.cols(); j++) {
                if (((mask.getInt(i, j / 32) >>> (j % 32)) & 1) != 0) {
                    shift += mean == null ? 0 : weights.get(i, j) * mean.get(0, j);
                    weights.set(i, j, 0);
                }
            }
            if (bias != null) {
                bias.add(0, i, shift);
            }
        }
    }

    private static void attention(Attention op) {
        Attention.Geometry geometry = op.geometry();
        Matrix query = new Matrix(op.query());
        Matrix key = new Matrix(op.key());
        Matrix value = new Matrix(op.value());
        Matrix visible = op.visible() == null ? null : new Matrix(op.visible());
        Matrix output = new Matrix(op.output());
        long length = geometry.length();
        int size = geometry.headSize();
        double[] weights = new double[Math.toIntExact(length)];
        boolean[] seen = new boolean[weights.length];
        for (long token = 0; token < query.rows(); token++) {
            long sequence = token / length;
            long position = token % length;
            long start = sequence * length;
            for (int head = 0; head < geometry.heads(); head++) {
                int keyHead = head / (geometry.heads() / geometry.keyHeads());
                double largest = Double.NEGATIVE_INFINITY;
                for (int k = 0; k < length; k++) {
                    seen[k] = (!geometry.causal() || k <= position)
                            && (geometry.window() == 0 || k > position - geometry.window())
                            && (visible == null || visible.getInt(sequence, k) != 0);
                    weights[k] = seen[k]
                            ? geometry.scale()
                                    * dot(query, token, (long) head * size, key, start + k, (long) keyHead * size, size)
                            : Double.NEGATIVE_INFINITY;
                    largest = Math.max(largest, weights[k]);
                }
                double total = 0;
                for (int k = 0; k < length; k++) {
                    weights[k] = seen[k] ? Math.exp(weights[k] - largest) : 0;
                    total += weights[k];
                }
                for (int c = 0; c < size; c++) {
                    double sum = 0;
                    for (int k = 0; k < length; k++) {
                        if (seen[k]) {
                            sum += weights[k] * value.get(start + k, (long) keyHead * size + c);
                        }
                    }
                    output.set(token, (long) head * size + c, total == 0 ? 0 : sum / total);
                }
            }
        }
    }

    private static void attentionResidual(AttentionResidual op) {
        Attention.Geometry geometry = op.geometry();
        Matrix visible = op.visible() == null ? null : new Matrix(op.visible());
        Matrix loss = new Matrix(op.loss());
        int size = geometry.headSize();
        long tokens = op.query().rows();
        double[][] query = plus(op.query(), null);
        double[][] key = plus(op.key(), null);
        double[][] prunedQuery = plus(op.query(), op.queryDifference());
        double[][] prunedKey = plus(op.key(), op.keyDifference());
        double[][] queryGradient = new double[Math.toIntExact(tokens)][query.length == 0 ? 0 : query[0].length];
        double[][] keyGradient = new double[Math.toIntExact(tokens)][key.length == 0 ? 0 : key[0].length];
        for (int head = 0; head < geometry.heads(); head++) {
            int column = head * size;
            int keyColumn = head / (geometry.heads() / geometry.keyHeads()) * size;
            double sum = 0;
            for (int token = 0; token < tokens; token++) {
                int[] seen = seen(geometry, visible, token);
                double[] dense = softmax(geometry.scale(), query[token], column, key, keyColumn, size, seen);
                double[] pruned =
                        softmax(geometry.scale(), prunedQuery[token], column, prunedKey, keyColumn, size, seen);
                double mean = 0;
                for (int k = 0; k < seen.length; k++) {
                    double residual = pruned[k] - dense[k];
                    sum += residual * residual / 2;
                    mean += pruned[k] * residual;
                }
                for (int k = 0; k < seen.length; k++) {
                    double slope = geometry.scale() * pruned[k] * (pruned[k] - dense[k] - mean);
                    for (int c = 0; c < size; c++) {
                        queryGradient[token][column + c] += slope * prunedKey[seen[k]][keyColumn + c];
                        keyGradient[seen[k]][keyColumn + c] += slope * prunedQuery[token][column + c];
                    }
                }
            }
            loss.add(0, head, sum);
        }
        if (op.queryGradient() != null) {
            store(queryGradient, op.queryGradient());
            store(keyGradient, op.keyGradient());
        }
    }

    /** The tokens that a token sees: none when it is padding itself. */
    private static int[] seen(Attention.Geometry geometry, Matrix visible, int token) {
        int length = Math.toIntExact(geometry.length());
        int sequence = token / length;
        int position = token % length;
        if (visible != null && visible.getInt(sequence, position) == 0) {
            return new int[0];
        }
        return IntStream.range(0, length)
                .filter(k -> (!geometry.causal() || k <= position)
                        && (geometry.window() == 0 || k > position - geometry.window())
                        && (visible == null || visible.getInt(sequence, k) != 0))
                .map(k -> sequence * length + k)
                .toArray();
    }

    /** Of the scaled products of a query with the keys that it sees; NaN throughout when one of them is not finite. */
    private static double[] softmax(
            float scale, double[] query, int column, double[][] key, int keyColumn, int size, int[] seen) {
        double[] weights = new double[seen.length];
        double largest = Double.NEGATIVE_INFINITY;
        for (int k = 0; k < seen.length; k++) {
            double product = 0;
            for (int c = 0; c < size; c++) {
                product += query[column + c] * key[seen[k]][keyColumn + c];
            }
            weights[k] = Double.isFinite(product) ? scale * product : Double.NaN;
            largest = Math.max(largest, weights[k]);
        }
        double total = 0;
        for (int k = 0; k < seen.length; k++) {
            weights[k] = Math.exp(weights[k] - largest);
            total += weights[k];
        }
        for (int k = 0; k < seen.length; k++) {
            weights[k] /= total;
        }
        return weights;
    }

    private static double[][] plus(View view, View difference) {
        Matrix matrix = new Matrix(view);
        Matrix added = difference == null ? null : new Matrix(difference);
        double[][] sum = new double[Math.toIntExact(view.rows())][Math.toIntExact(view.cols())];
        for (int i = 0; i < sum.length; i++) {
            for (int j = 0; j < sum[i].length; j++) {
                sum[i][j] = matrix.get(i, j) + (added == null ? 0 : added.get(i, j));
            }
        }
        return sum;
    }

    private static void store(double[][] values, View view) {
        Matrix matrix = new Matrix(view);
        for (int i = 0; i < values.length; i++) {
            for (int j = 0; j < values[i].length; j++) {
                matrix.set(i, j, values[i][j]);
            }
        }
    }

    private static double dot(Matrix a, long rowA, long colA, Matrix b, long rowB, long colB, long size) {
        double sum = 0;
        for (long i = 0; i < size; i++) {
            sum += a.get(rowA, colA + i) * b.get(rowB, colB + i);
        }
        return sum;
    }

    private static void bandStop(BandStop op) {
        Matrix latents = new Matrix(op.latents());
        Matrix weights = new Matrix(op.weights());
        Matrix slope = op.slope() == null ? null : new Matrix(op.slope());
        for (long i = 0; i < latents.rows(); i++) {
            for (long j = 0; j < latents.cols(); j++) {
                double v = latents.get(i, j);
                double sharp = op.sharpness() * v * v;
                // An infinite latent passes; NaN stays itself, or which NaN comes out would be the machine's choice.
                double passed = 1;
                double rise = Double.isNaN(v) ? v : 1;
                if (Double.isFinite(v)) {
                    switch (op.form()) {
                        case BandStop.Form.Sigmoid _ -> {
                            // exp(x) for x beyond 709 is infinite, where its product with a vanished factor is 0
                            double z = Math.clamp(sharp - op.sharpness() * (double) op.squaredThreshold(), -700, 700);
                            passed = 1 / (1 + Math.exp(-z));
                            rise = passed * (1 + 2 * sharp / (1 + Math.exp(z)));
                        }
                        case BandStop.Form.Tanh _ -> {
                            passed = Math.tanh(sharp / 2);
                            double held = 1 / Math.cosh(Math.min(sharp / 2, 350));
                            rise = passed + sharp * held * held;
                        }
                    }
                }
                weights.set(i, j, op.gain() * v * passed);
                if (slope != null) {
                    slope.set(i, j, op.gain() * rise);
                }
            }
        }
    }

    private static void cast(Cast op) {
        Matrix source = new Matrix(op.source());
        Matrix target = new Matrix(op.target());
        for (long i = 0; i < source.rows(); i++) {
            for (long j = 0; j < source.cols(); j++) {
                if (op.transpose()) {
                    target.set(j, i, source.get(i, j));
                } else {
                    target.set(i, j, source.get(i, j));
                }
            }
        }
    }

    private static void columnMoments(ColumnMoments op) {
        Matrix x = new Matrix(op.x());
        Matrix count = new Matrix(op.count());
        Matrix moments = new Matrix(op.moments());
        long before = count.getLong(0, 0);
        long added = x.rows();
        if (added == 0) {
            return;
        }
        long after = before + added;
        for (long j = 0; j < x.cols(); j++) {
            double sum = 0;
            for (long i = 0; i < added; i++) {
                sum += x.get(i, j);
            }
            double batchMean = sum / added;
            double batchM2 = 0;
            double squares = 0;
            for (long i = 0; i < added; i++) {
                double value = x.get(i, j);
                batchM2 += (value - batchMean) * (value - batchMean);
                squares += value * value;
            }
            double difference = batchMean - moments.get(ColumnMoments.MEAN, j);
            moments.add(ColumnMoments.MEAN, j, difference * added / after);
            moments.add(ColumnMoments.M2, j, batchM2 + difference * difference * ((double) before * added / after));
            moments.add(ColumnMoments.SUM_OF_SQUARES, j, squares);
        }
        count.setLong(0, 0, after);
    }

    private static void combineInt8(CombineInt8 op) {
        Matrix a = new Matrix(op.a());
        Matrix b = new Matrix(op.b());
        Matrix y = new Matrix(op.y());
        int aZero = op.aZero() - Levels.lowest(op.a().dtype());
        int bZero = op.bZero() - Levels.lowest(op.b().dtype());
        for (long i = 0; i < a.rows(); i++) {
            for (long j = 0; j < a.cols(); j++) {
                int left = a.getCounted(i, j) - aZero;
                int right = b.getCounted(i / op.shared(), j) - bZero;
                float value = switch (op.rule()) {
                    case CombineInt8.Rule.Sum(float aScale, float bScale) -> left * aScale + right * bScale;
                    case CombineInt8.Rule.Product(float scale) -> left * right * scale;
                };
                y.setByte(i, j, op.levels().quantize(value));
            }
        }
    }

    private static void conv2dInt8(Conv2dInt8 op) {
        Matrix x = new Matrix(op.x());
        Matrix bias = new Matrix(op.bias());
        Matrix scale = new Matrix(op.scale());
        Matrix residual =
                op.residual() == null ? null : new Matrix(op.residual().values());
        Matrix y = new Matrix(op.y());
        Window window = op.window();
        byte[] weights = weights(op);
        int channels = Math.toIntExact(x.cols() / op.groups());
        int filters = Math.toIntExact(y.cols() / op.groups());
        int zero = op.inputZero() - Levels.lowest(op.x().dtype());
        int[] input = new int[window.taps() * channels];
        for (long row = 0; row < y.rows(); row++) {
            for (int group = 0; group < op.groups(); group++) {
                for (int i = 0; i < input.length; i++) {
                    long pixel = pixel(window, row, i / channels);
                    input[i] = pixel < 0 ? zero : x.getCounted(pixel, (long) group * channels + i % channels);
                }
                for (int k = group * filters; k < (group + 1) * filters; k++) {
                    int sum = bias.getInt(0, k);
                    for (int i = 0; i < input.length; i++) {
                        sum += input[i] * weights[k * input.length + i];
                    }
                    float value = sum * (float) scale.get(0, k);
                    if (residual != null) {
                        int added = residual.getCounted(row, k)
                                + Levels.lowest(op.residual().values().dtype())
                                - op.residual().zero();
                        value += added * op.residual().scale();
                    }
                    y.setByte(row, k, op.levels().quantize(value));
                }
            }
        }
    }

    /** Filters x taps x channels of a group. */
    private static byte[] weights(Conv2dInt8 op) {
        Matrix packed = new Matrix(op.weights());
        Int8Filters.Layout layout = op.layout();
        int channels = layout.channels() / layout.groups();
        byte[] weights = new byte[Math.multiplyExact(layout.filters(), layout.taps() * channels)];
        for (int i = 0; i < weights.length; i++) {
            int filter = i / (layout.taps() * channels);
            long col = layout.col(filter, i / channels % layout.taps(), i % channels);
            weights[i] = packed.getByte(layout.row(filter), col);
        }
        return weights;
    }

    /** The input's row under a tap of the window of an output's row; negative in the padding. */
    private static long pixel(Window window, long row, int tap) {
        long image = row / window.outputPixels();
        int place = (int) (row % window.outputPixels());
        int i = place / window.outputWidth() * window.strideY()
                - window.top()
                + tap / window.kernelWidth() * window.dilationY();
        int j = place % window.outputWidth() * window.strideX()
                - window.left()
                + tap % window.kernelWidth() * window.dilationX();
        boolean inside = i >= 0 && i < window.height() && j >= 0 && j < window.width();
        return inside ? (image * window.height() + i) * window.width() + j : -1;
    }

    private static void countValues(CountValues op) {
        Matrix x = new Matrix(op.x());
        long zeros = 0;
        long nans = 0;
        long infinities = 0;
        for (long i = 0; i < x.rows(); i++) {
            for (long j = 0; j < x.cols(); j++) {
                double value = x.get(i, j);
                zeros += value == 0 ? 1 : 0;
                nans += Double.isNaN(value) ? 1 : 0;
                infinities += Double.isInfinite(value) ? 1 : 0;
            }
        }
        Matrix counts = new Matrix(op.counts());
        counts.setLong(0, 0, zeros);
        counts.setLong(0, 1, nans);
        counts.setLong(0, 2, infinities);
    }

    private static void embedding(Embedding op) {
        Matrix table = new Matrix(op.table());
        Matrix ids = new Matrix(op.ids());
        Matrix output = new Matrix(op.output());
        for (long i = 0; i < output.rows(); i++) {
            int id = ids.getInt(0, i);
            if (id < 0 || id >= table.rows()) {
                throw new DeviceException(
                        NAME,
                        "embedding",
                        0,
                        "id " + id + " at position " + i + " is outside the table of " + table.rows(),
                        DeviceException.Kind.LAUNCH);
            }
            for (long j = 0; j < output.cols(); j++) {
                output.set(i, j, op.accumulate() ? output.get(i, j) + table.get(id, j) : table.get(id, j));
            }
        }
    }

    private static void gemm(Gemm op) {
        Matrix a = new Matrix(op.a());
        Matrix b = new Matrix(op.b());
        Matrix bias = op.bias() == null ? null : new Matrix(op.bias());
        Matrix c = new Matrix(op.c());
        for (long i = 0; i < c.rows(); i++) {
            for (long j = 0; j < c.cols(); j++) {
                double sum = 0;
                for (long k = 0; k < a.cols(); k++) {
                    sum += a.get(i, k) * (op.transposeB() ? b.get(j, k) : b.get(k, j));
                }
                sum += bias == null ? 0 : bias.get(0, j);
                c.set(i, j, op.accumulate() ? c.get(i, j) + sum : sum);
            }
        }
    }

    private static void gemv(Gemv op) {
        Matrix weights = new Matrix(op.weights());
        for (long i = 0; i < weights.rows(); i++) {
            long row = i;
            multiply(row, j -> weights.get(row, j), op.x(), op.bias(), op.y());
        }
    }

    private static void multiply(long row, LongToDoubleFunction weights, View vectors, View biases, View products) {
        Matrix x = new Matrix(vectors);
        Matrix bias = biases == null ? null : new Matrix(biases);
        Matrix y = new Matrix(products);
        for (long b = 0; b < x.rows(); b++) {
            double sum = 0;
            for (long j = 0; j < x.cols(); j++) {
                sum += weights.applyAsDouble(j) * x.get(b, j);
            }
            y.set(b, row, sum + (bias == null ? 0 : bias.get(0, row)));
        }
    }

    private static void gram(Gram op) {
        Matrix x = new Matrix(op.x());
        Matrix sum = new Matrix(op.sum());
        for (long i = 0; i < x.cols(); i++) {
            for (long j = i; j < x.cols(); j++) {
                double total = 0;
                for (long t = 0; t < x.rows(); t++) {
                    total += x.get(t, i) * x.get(t, j);
                }
                sum.add(i, j, total);
            }
        }
    }

    private static void inverseCholesky(InverseCholesky op) {
        Matrix gram = new Matrix(op.gram());
        Matrix factor = new Matrix(op.factor());
        Matrix status = new Matrix(op.status());
        int n = Math.toIntExact(gram.rows());
        double sum = 0;
        int live = 0;
        for (int i = 0; i < n; i++) {
            sum += gram.get(i, i);
            live += gram.get(i, i) == 0 ? 0 : 1;
        }
        double shift = live == 0 ? 0 : op.damping() * (sum / live);
        double[][] r = new double[n][n];
        int failed = -1;
        for (int j = n - 1; j >= 0 && failed < 0; j--) {
            double pivot = (gram.get(j, j) == 0 ? 1 : gram.get(j, j)) + shift;
            for (int k = j + 1; k < n; k++) {
                pivot -= r[j][k] * r[j][k];
            }
            if (!(pivot > 0 && pivot < Double.POSITIVE_INFINITY)) {
                failed = j;
            }
            r[j][j] = Math.sqrt(pivot);
            for (int i = 0; i < j; i++) {
                double value = gram.get(i, j);
                for (int k = j + 1; k < n; k++) {
                    value -= r[i][k] * r[j][k];
                }
                r[i][j] = value / r[j][j];
            }
        }
        status.setLong(0, 0, failed + 1L);
        for (int col = 0; col < n; col++) {
            double[] u = new double[n];
            for (int i = col; i >= 0; i--) {
                double value = i == col ? 1 : 0;
                for (int k = i + 1; k <= col; k++) {
                    value -= r[i][k] * u[k];
                }
                u[i] = value / r[i][i];
            }
            for (int i = 0; i < n; i++) {
                factor.set(i, col, failed < 0 ? u[i] : 0);
            }
        }
    }

    private static void layerNorm(LayerNorm op) {
        Matrix x = new Matrix(op.x());
        Matrix gain = new Matrix(op.gain());
        Matrix bias = new Matrix(op.bias());
        Matrix y = new Matrix(op.y());
        for (long i = 0; i < x.rows(); i++) {
            double mean = 0;
            for (long j = 0; j < x.cols(); j++) {
                mean += x.get(i, j) / x.cols();
            }
            double variance = 0;
            for (long j = 0; j < x.cols(); j++) {
                variance += (x.get(i, j) - mean) * (x.get(i, j) - mean) / x.cols();
            }
            double scale = 1 / Math.sqrt(variance + op.epsilon());
            for (long j = 0; j < x.cols(); j++) {
                y.set(i, j, (x.get(i, j) - mean) * scale * gain.get(0, j) + bias.get(0, j));
            }
        }
    }

    private static void lookup(Lookup op) {
        Matrix x = new Matrix(op.x());
        Matrix table = new Matrix(op.table());
        Matrix y = new Matrix(op.y());
        for (long i = 0; i < x.rows(); i++) {
            for (long j = 0; j < x.cols(); j++) {
                int entry = x.getCounted(i, j);
                if (op.y().dtype() == DType.F32) {
                    y.setInt(i, j, table.getInt(0, entry)); // bits, of a NaN too
                } else {
                    y.setByte(i, j, table.getByte(0, entry));
                }
            }
        }
    }

    private static void maskDifference(MaskDifference op) {
        Matrix weights = new Matrix(op.weights());
        Matrix mask = new Matrix(op.mask());
        Matrix difference = new Matrix(op.difference());
        for (long i = 0; i < weights.rows(); i++) {
            for (long j = 0; j < weights.cols(); j++) {
                boolean pruned = ((mask.getInt(i, j / 32) >>> (j % 32)) & 1) != 0;
                difference.set(i, j, pruned ? -weights.get(i, j) : 0);
            }
        }
    }

    private static void maskStep(MaskStep op) {
        Matrix weights = new Matrix(op.weights());
        Matrix gradient = new Matrix(op.gradient());
        Matrix state = new Matrix(op.state());
        Matrix difference = op.rule() instanceof MaskStep.Rule.Soft soft ? new Matrix(soft.difference()) : null;
        long invalid = 0;
        for (long i = 0; i < weights.rows(); i++) {
            for (long j = 0; j < weights.cols(); j++) {
                float slope = (float) (weights.get(i, j) * gradient.get(i, j));
                boolean adaptive = op.rule() instanceof MaskStep.Rule.Adam;
                boolean valid = Float.isFinite(adaptive ? slope * slope : slope);
                invalid += valid ? 0 : 1;
                switch (op.rule()) {
                    case MaskStep.Rule.Soft soft -> {
                        double mask = state.get(i, j);
                        if (valid) {
                            mask = Math.clamp(mask - soft.rate() * (slope + soft.decay() * mask), 0, 1);
                            state.set(i, j, mask);
                        }
                        difference.set(i, j, (mask - 1) * weights.get(i, j));
                    }
                    case MaskStep.Rule.Adam adam -> {
                        if (valid) {
                            state.set(i, j, Math.max(0, state.get(i, j) - adamStep(adam, i, j, slope)));
                        }
                    }
                }
            }
        }
        Matrix count = new Matrix(op.invalid());
        count.setLong(0, 0, count.getLong(0, 0) + invalid);
    }

    /** Updates the moving means of an element; returns what its score loses. */
    private static double adamStep(MaskStep.Rule.Adam adam, long i, long j, double slope) {
        Matrix first = new Matrix(adam.first());
        Matrix second = new Matrix(adam.second());
        Matrix numbers = new Matrix(adam.numbers());
        double mean = adam.beta1() * first.get(i, j) + (1 - (double) adam.beta1()) * slope;
        double square = adam.beta2() * second.get(i, j) + (1 - (double) adam.beta2()) * slope * slope;
        first.set(i, j, mean);
        second.set(i, j, square);
        return numbers.get(0, 0)
                * (numbers.get(0, 1) * mean)
                / (Math.sqrt(numbers.get(0, 2) * square) + numbers.get(0, 3));
    }

    /** In fp32, each operation rounded: that is this op's definition. */
    private static void maxPoolInt8(MaxPoolInt8 op) {
        Matrix x = new Matrix(op.x());
        Matrix y = new Matrix(op.y());
        for (long row = 0; row < y.rows(); row++) {
            for (long c = 0; c < y.cols(); c++) {
                int most = 0;
                for (int tap = 0; tap < op.window().taps(); tap++) {
                    long pixel = pixel(op.window(), row, tap);
                    most = pixel < 0 ? most : Math.max(most, x.getCounted(pixel, c));
                }
                y.setByte(row, c, most + Levels.lowest(op.x().dtype()));
            }
        }
    }

    private static void obsSweep(ObsSweep op) {
        Matrix weights = new Matrix(op.weights());
        Matrix factor = new Matrix(op.factor());
        Matrix mask = new Matrix(op.mask());
        Matrix errors = new Matrix(op.errors());
        ObsSweep.Groups groups = op.groups();
        for (long i = 0; i < weights.rows(); i++) {
            for (long j = 0; j < weights.cols(); j++) {
                if (groups != null && j % 32 == 0) {
                    mask.setInt(i, j / 32, 0);
                }
            }
            for (long j = 0; j < weights.cols(); j++) {
                if (groups != null && j % groups.size() == 0) {
                    pruneSmallest(
                            weights,
                            new Matrix(groups.scale()),
                            mask,
                            i * weights.cols() + j,
                            groups.size(),
                            groups.prune());
                }
                float error = 0;
                if (((mask.getInt(i, j / 32) >>> (j % 32)) & 1) != 0) {
                    error = (float) weights.get(i, j) / (float) factor.get(j, j);
                    weights.set(i, j, 0);
                    for (long k = j + 1; k < weights.cols(); k++) {
                        float change = error * (float) factor.get(j, k);
                        weights.set(i, k, (float) weights.get(i, k) - change);
                    }
                    error = -error;
                }
                errors.set(i, j, error);
            }
        }
    }

    private static void quadraticForm(QuadraticForm op) {
        Matrix a = new Matrix(op.a());
        Matrix b = op.b() == null ? null : new Matrix(op.b());
        Matrix gram = new Matrix(op.gram());
        Matrix sum = new Matrix(op.sum());
        Matrix forms = new Matrix(op.forms());
        double[] d = new double[Math.toIntExact(a.cols())];
        for (long i = 0; i < a.rows(); i++) {
            double square = 0;
            double total = 0;
            for (int j = 0; j < d.length; j++) {
                d[j] = a.get(i, j) - (b == null ? 0 : b.get(i, j));
                total += d[j] * sum.get(0, j);
            }
            for (int j = 0; j < d.length; j++) {
                for (int k = 0; k < d.length; k++) {
                    square += d[j] * gram.get(Math.min(j, k), Math.max(j, k)) * d[k];
                }
            }
            forms.set(i, 0, square);
            forms.set(i, 1, total);
        }
    }

    private static void quantize(Quantize op) {
        Matrix x = new Matrix(op.x());
        Matrix y = new Matrix(op.y());
        for (long i = 0; i < x.rows(); i++) {
            for (long j = 0; j < x.cols(); j++) {
                y.setByte(i, j, op.levels().quantize((float) x.get(i, j) / op.scale()));
            }
        }
    }

    private static void rmsNorm(RmsNorm op) {
        Matrix x = new Matrix(op.x());
        Matrix gain = new Matrix(op.gain());
        Matrix y = new Matrix(op.y());
        for (long i = 0; i < x.rows(); i++) {
            double squares = 0;
            for (long j = 0; j < x.cols(); j++) {
                squares += x.get(i, j) * x.get(i, j);
            }
            double scale = 1 / Math.sqrt(squares / x.cols() + op.epsilon());
            for (long j = 0; j < x.cols(); j++) {
                y.set(i, j, x.get(i, j) * scale * gain.get(0, j));
            }
        }
    }

    private static void rmsNormGradient(RmsNormGradient op) {
        Matrix x = new Matrix(op.x());
        Matrix gain = new Matrix(op.gain());
        Matrix slope = new Matrix(op.slope());
        Matrix gradient = new Matrix(op.gradient());
        for (long i = 0; i < x.rows(); i++) {
            double squares = 0;
            double product = 0;
            for (long j = 0; j < x.cols(); j++) {
                squares += x.get(i, j) * x.get(i, j);
                product += gain.get(0, j) * slope.get(i, j) * x.get(i, j);
            }
            double scale = 1 / Math.sqrt(squares / x.cols() + op.epsilon());
            double pull = product * scale * scale / x.cols();
            for (long j = 0; j < x.cols(); j++) {
                gradient.set(i, j, scale * (gain.get(0, j) * slope.get(i, j) - pull * x.get(i, j)));
            }
        }
    }

    private static void rotary(Rotary op) {
        Matrix x = new Matrix(op.x());
        Matrix cosine = new Matrix(op.cosine());
        Matrix sine = new Matrix(op.sine());
        long half = cosine.cols();
        for (long i = 0; i < x.rows(); i++) {
            long position = i % cosine.rows();
            for (int head = 0; head < op.heads(); head++) {
                long first = 2L * head * half;
                for (long j = 0; j < half; j++) {
                    double low = x.get(i, first + j);
                    double high = x.get(i, first + half + j);
                    x.set(i, first + j, low * cosine.get(position, j) - high * sine.get(position, j));
                    x.set(i, first + half + j, high * cosine.get(position, j) + low * sine.get(position, j));
                }
            }
        }
    }

    private static void scoreHistogram(ScoreHistogram op) {
        Matrix weights = new Matrix(op.weights());
        Matrix scale = op.scale() == null ? null : new Matrix(op.scale());
        Matrix histogram = new Matrix(op.histogram());
        for (long i = 0; i < weights.rows(); i++) {
            for (long j = 0; j < weights.cols(); j++) {
                int key = key(weights, scale, i, j);
                int high = key >>> ScoreHistogram.LOW_BITS;
                int low = key & ((1 << ScoreHistogram.LOW_BITS) - 1);
                switch (op.half()) {
                    case HIGH -> histogram.setLong(0, high, histogram.getLong(0, high) + 1);
                    case LOW -> {
                        if (high == op.prefix()) {
                            histogram.setLong(0, low, histogram.getLong(0, low) + 1);
                        }
                    }
                }
            }
        }
    }

    private static int key(Matrix weights, Matrix scale, long row, long col) {
        return ScoreSelect.key((float) weights.get(row, col), scale == null ? 1 : (float) scale.get(0, col));
    }

    private static void scoreSelect(ScoreSelect op) {
        Matrix weights = new Matrix(op.weights());
        Matrix scale = op.scale() == null ? null : new Matrix(op.scale());
        Matrix mask = new Matrix(op.mask());
        int words = BitMask.wordsPerRow(weights.cols());
        for (long i = 0; i < weights.rows(); i++) {
            for (int word = 0; word < words; word++) {
                mask.setInt(i, word, 0);
            }
        }
        long elements = weights.rows() * weights.cols();
        switch (op.selection()) {
            case Selection.Row(long prune) -> {
                for (long first = 0; first < elements; first += weights.cols()) {
                    pruneSmallest(weights, scale, mask, first, weights.cols(), prune);
                }
            }
            case Selection.Groups(int prune, int size) -> {
                for (long first = 0; first < elements; first += size) {
                    pruneSmallest(weights, scale, mask, first, size, prune);
                }
            }
            case Selection.Matrix(long prune) -> pruneSmallest(weights, scale, mask, 0, elements, prune);
            case Selection.Cut(int cut, long ties) -> {
                long tiesLeft = ties;
                for (long at = 0; at < elements; at++) {
                    int key = key(weights, scale, at / weights.cols(), at % weights.cols());
                    boolean tie = key == cut && tiesLeft > 0;
                    if (key < cut || tie) {
                        prune(mask, at / weights.cols(), at % weights.cols());
                    }
                    tiesLeft -= tie ? 1 : 0;
                }
            }
        }
    }

    /**
     * The definition: a stable ascending sort of the keys of {@code size} elements, row-major from {@code first} on, of which
     * the first {@code prune} are marked.
     */
    private static void pruneSmallest(Matrix weights, Matrix scale, Matrix mask, long first, long size, long prune) {
        long cols = weights.cols();
        long[] order = new long[Math.toIntExact(size)];
        Arrays.setAll(order, i -> {
            long at = first + i;
            return ((long) key(weights, scale, at / cols, at % cols) << Integer.SIZE) | i;
        });
        Arrays.sort(order);
        for (int rank = 0; rank < prune; rank++) {
            long at = first + (int) order[rank];
            prune(mask, at / cols, at % cols);
        }
    }

    private static void prune(Matrix mask, long row, long col) {
        mask.setInt(row, col / 32, mask.getInt(row, col / 32) | (1 << (col % 32)));
    }

    private static void softHistogram(SoftHistogram op) {
        Matrix values = new Matrix(op.values());
        Matrix mass = new Matrix(op.mass());
        Matrix outside = new Matrix(op.outside());
        SoftHistogram.Bins bins = op.bins();
        double last = bins.first() + (bins.count() - 0.5) * bins.spacing();
        for (long i = 0; i < values.rows(); i++) {
            for (long j = 0; j < values.cols(); j++) {
                double v = values.get(i, j);
                if (!(v >= bins.first() - 0.5 * bins.spacing() && v <= last)) {
                    outside.setLong(0, 0, outside.getLong(0, 0) + 1);
                }
                if (Double.isFinite(v)) {
                    Bumps bumps = new Bumps(v, bins, op.kind());
                    for (int k = bumps.from; k < bumps.to; k++) {
                        mass.add(0, k, bumps.mass[k - bumps.from]);
                    }
                }
            }
        }
    }

    private static void softHistogramGradient(SoftHistogramGradient op) {
        Matrix values = new Matrix(op.values());
        Matrix slope = new Matrix(op.slope());
        Matrix gradient = new Matrix(op.gradient());
        for (long i = 0; i < values.rows(); i++) {
            for (long j = 0; j < values.cols(); j++) {
                double v = values.get(i, j);
                double moved = 0; // sum of e t l
                double drift = 0; // sum of e t
                double level = 0; // sum of e l
                if (Double.isFinite(v)) {
                    Bumps bumps = new Bumps(v, op.bins(), op.kind());
                    for (int k = bumps.from; k < bumps.to; k++) {
                        double turn = bumps.mass[k - bumps.from] * bumps.slope(k);
                        moved += turn * slope.get(0, k);
                        drift += turn;
                        level += bumps.mass[k - bumps.from] * slope.get(0, k);
                    }
                }
                boolean shared = op.kind() == SoftHistogram.Mass.SHARES;
                gradient.set(i, j, shared ? moved - drift * level : moved);
            }
        }
    }

    /** What a finite value adds to the bins {@code from} to {@code to} (exclusive). */
    private static final class Bumps {
        private final SoftHistogram.Bins bins;
        private final SoftHistogram.Mass kind;
        private final int nearest;
        /** In bandwidths, from the nearest bin. */
        private final double distance;

        private final double step;
        private final int from;
        private final int to;
        private final double[] mass;

        Bumps(double value, SoftHistogram.Bins bins, SoftHistogram.Mass kind) {
            this.bins = bins;
            this.kind = kind;
            nearest = Math.toIntExact(
                    Math.clamp(Math.round((value - bins.first()) / bins.spacing()), 0, bins.count() - 1));
            distance = (value - (bins.first() + nearest * (double) bins.spacing())) / bins.bandwidth();
            step = (double) bins.spacing() / bins.bandwidth();
            from = Math.max(0, nearest - bins.reach());
            to = Math.min(bins.count(), nearest + bins.reach() + 1);
            mass = new double[to - from];
            double sum = 0;
            for (int k = from; k < to; k++) {
                // exp(distance^2 - (distance - ahead)^2), which is at most about 1 where the bump itself may vanish
                double ahead = (k - nearest) * step;
                mass[k - from] = Math.exp(ahead * (2 * distance - ahead));
                sum += mass[k - from];
            }
            double factor = kind == SoftHistogram.Mass.SHARES ? 1 / sum : Math.exp(-distance * distance);
            for (int k = 0; k < mass.length; k++) {
                mass[k] *= factor;
            }
        }

        /** t of a bin; for shares up to a summand that is the same for all bins, which cancels. */
        double slope(int bin) {
            double from = kind == SoftHistogram.Mass.SHARES ? 0 : distance;
            return -2 * (from - (bin - nearest) * step) / bins.bandwidth();
        }
    }

    private static void sparseGemv(SparseGemv op) {
        Matrix values = new Matrix(op.values());
        Matrix mask = new Matrix(op.mask());
        Matrix starts = new Matrix(op.starts());
        double[] weights = new double[Math.toIntExact(op.x().cols())];
        for (long i = 0; i < op.y().cols(); i++) {
            long next = starts.getLong(0, i);
            for (int j = 0; j < weights.length; j++) {
                boolean kept = ((mask.getByte(i, j / 8) >>> (j % 8)) & 1) != 0;
                if (kept && (next < 0 || next >= values.cols())) {
                    throw op.broken(NAME);
                }
                weights[j] = kept ? values.get(0, next++) : 0;
            }
            if (next < 0 || next > values.cols() || next != starts.getLong(0, i + 1)) {
                throw op.broken(NAME);
            }
            multiply(i, j -> weights[(int) j], op.x(), op.bias(), op.y());
        }
    }

    private static void stateCounts(StateCounts op) {
        Matrix x = new Matrix(op.x());
        Matrix counts = new Matrix(op.counts());
        for (long i = 0; i < x.rows(); i++) {
            for (long j = 0; j < x.cols(); j++) {
                double value = x.get(i, j);
                int state = StateCounts.NAN;
                if (value > 0) {
                    state = StateCounts.ON;
                } else if (value < 0) {
                    state = StateCounts.OFF;
                } else if (value == 0) {
                    state = StateCounts.ZERO;
                }
                long unit = j / op.inner();
                counts.setLong(state, unit, counts.getLong(state, unit) + 1);
            }
        }
    }
}

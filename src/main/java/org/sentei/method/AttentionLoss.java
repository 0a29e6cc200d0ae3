package org.sentei.method;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Consumer;
import org.sentei.kernel.Attention;
import org.sentei.kernel.AttentionResidual;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Cast;
import org.sentei.kernel.Gemm;
import org.sentei.kernel.Op;
import org.sentei.kernel.RmsNorm;
import org.sentei.kernel.RmsNormGradient;
import org.sentei.kernel.Rotary;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.tensor.DType;

/**
 * How far changed query and key weights move the attention matrices of a layer (2410.11261, with W_Q and W_K apart), and the
 * gradient by these weights: {@code L = 1/2 sum ||P - A||^2} over windows and heads, A the layer's own attention matrices, P the
 * changed ones, with bias, norm, rotary embedding and masking between weights and softmax as the layer has them. A gradient goes
 * back through the rotary embedding by the opposite rotation, and to a key head it is the sum over its query heads.
 *
 * <p>Holds inputs, queries and keys of all windows on the device, in memory of the scope given.
 */
public final class AttentionLoss {
    private final Layer layer;
    private final Scope scope;
    private final Backend backend;
    private final List<Batch> batches = new ArrayList<>();
    /** The sine of the opposite rotation. */
    private final View opposite;

    private final Room queries;
    private final Room keys;

    /** Sums of squares of A, batch by batch and head by head. */
    private final double[][] energy;

    /**
     * What turns inputs into queries, or keys.
     *
     * @param weight F32 outputs x inputs
     * @param bias F32 1 x outputs, or null
     * @param gain of the RMS norm over each head, F32 1 x head size, or null for none
     * @param epsilon of that norm
     */
    public record Projection(View weight, View bias, View gain, float epsilon) {}

    /**
     * A layer's way from inputs to attention matrices.
     *
     * @param cosine of the rotary embedding, F32 length x half a head, or null for none
     * @param sine of the rotary embedding, or null for none
     */
    public record Layer(Projection query, Projection key, View cosine, View sine, Attention.Geometry geometry) {}

    /**
     * What is added to a projection.
     *
     * @param weight of the weight's shape
     * @param bias of the bias's shape, or null for nothing
     */
    public record Change(View weight, View bias) {}

    /** Inputs of whole windows, with their dense queries and keys. */
    private record Batch(View input, View query, View key) {}

    /**
     * @param inputs of the layer, F32 tokens x features, whole windows one below the other; they must stay as they are
     * @param windows of a batch, which are worked on at once
     * @param scope owner of what this holds
     */
    public AttentionLoss(Layer layer, View inputs, int windows, Scope scope) {
        this.layer = layer;
        this.scope = scope;
        this.backend = scope.backend();
        this.opposite = layer.sine == null ? null : negative(layer.sine, scope);
        long tokens = windows * layer.geometry.length();
        for (long first = 0; first < inputs.rows(); first += tokens) {
            View input = inputs.rows(first, Math.min(inputs.rows(), first + tokens));
            View query = scope.matrix(input.rows(), layer.query.weight.rows());
            View key = scope.matrix(input.rows(), layer.key.weight.rows());
            project(input, layer.query, layer.query.weight, layer.query.bias, query);
            project(input, layer.key, layer.key.weight, layer.key.bias, key);
            batches.add(new Batch(input, query, key));
        }
        this.queries = new Room(layer.query, batches.getFirst().query);
        this.keys = new Room(layer.key, batches.getFirst().key);
        this.energy = energies();
    }

    private View negative(View view, Scope owner) {
        float[] values = host(view);
        for (int i = 0; i < values.length; i++) {
            values[i] = -values[i];
        }
        return upload(values, view.rows(), view.cols(), owner);
    }

    private float[] host(View view) {
        float[] values = new float[Math.toIntExact(view.elements())];
        backend.copyOut(view, MemorySegment.ofArray(values));
        return values;
    }

    private View upload(float[] values, long rows, long cols, Scope owner) {
        View view = owner.matrix(rows, cols);
        backend.copyIn(MemorySegment.ofArray(values), view);
        return view;
    }

    private int headSize() {
        return layer.geometry.headSize();
    }

    private void project(View input, Projection projection, View weight, View bias, View output) {
        backend.run(new Gemm(input, weight, true, bias, output, false));
        if (projection.gain != null) {
            View heads = output.reshape(output.elements() / headSize(), headSize());
            backend.run(new RmsNorm(heads, projection.gain, heads, projection.epsilon));
        }
        rotate(output, layer.sine, backend::run);
    }

    private void rotate(View x, View sine, Consumer<Op> run) {
        if (sine != null) {
            run.accept(new Rotary(x, layer.cosine, sine, Math.toIntExact(x.cols() / headSize())));
        }
    }

    /**
     * With queries of 0 every P is uniform over the keys seen, so that the sum of {@code (P - A)^2} is that of A^2 less
     * 1 / keys seen.
     */
    private double[][] energies() {
        double uniform = 0;
        for (long token = 0; token < layer.geometry.length(); token++) {
            uniform += 1.0 / keysSeen(token);
        }
        double[][] sums = new double[batches.size()][layer.geometry.heads()];
        for (int i = 0; i < sums.length; i++) {
            Batch batch = batches.get(i);
            try (Scope local = scope.child()) {
                View loss = local.zeros(DType.F64, 1, layer.geometry.heads());
                View query = negative(batch.query, local);
                View key = local.zeros(DType.F32, batch.key.rows(), batch.key.cols());
                backend.run(new AttentionResidual(
                        batch.query, batch.key, query, key, null, loss, null, null, layer.geometry));
                backend.copyOut(loss, MemorySegment.ofArray(sums[i]));
            }
            for (int head = 0; head < sums[i].length; head++) {
                sums[i][head] = 2 * sums[i][head] + uniform * batch.input.rows() / layer.geometry.length();
            }
        }
        return sums;
    }

    private long keysSeen(long token) {
        Attention.Geometry geometry = layer.geometry;
        if (!geometry.causal()) {
            return geometry.length();
        }
        return geometry.window() == 0 ? token + 1 : Math.min(geometry.window(), token + 1);
    }

    private long windows() {
        return batches.stream().mapToLong(batch -> batch.input.rows()).sum() / layer.geometry.length();
    }

    /** Query heads of the layer. */
    public int heads() {
        return layer.geometry.heads();
    }

    /** Batches of windows. */
    public int batches() {
        return batches.size();
    }

    /**
     * L of every head over all windows.
     *
     * @param query what is added to the query projection, null for nothing
     * @param key what is added to the key projection, null for nothing
     */
    public double[] loss(Change query, Change key) {
        double[] losses = new double[layer.geometry.heads()];
        try (Scope local = scope.child()) {
            View loss = local.zeros(DType.F64, 1, losses.length);
            for (Batch batch : batches) {
                Moved q = queries.moved(batch.input, query, batch.query, backend::run);
                Moved k = keys.moved(batch.input, key, batch.key, backend::run);
                backend.run(new AttentionResidual(
                        batch.query, batch.key, q.difference, k.difference, null, loss, null, null, layer.geometry));
            }
            backend.copyOut(loss, MemorySegment.ofArray(losses));
        }
        return losses;
    }

    /** {@code ||P - A|| / ||A||} over all windows and heads. */
    public double error(Change query, Change key) {
        return error(loss(query, key), 0, batches.size());
    }

    /**
     * {@code ||P - A|| / ||A||}.
     *
     * @param losses of every head over some batches
     * @param first of these
     * @param count of these
     */
    public double error(double[] losses, int first, int count) {
        double loss = 0;
        double whole = 0;
        for (int head = 0; head < losses.length; head++) {
            loss += losses[head];
            for (int i = 0; i < count; i++) {
                whole += energy[(first + i) % batches.size()][head];
            }
        }
        return Math.sqrt(2 * loss / whole);
    }

    /** {@code ||P - A|| / ||A||} of each head over all windows. */
    public double[] errors(double[] losses) {
        double[] errors = new double[losses.length];
        for (int head = 0; head < errors.length; head++) {
            double whole = 0;
            for (double[] batch : energy) {
                whole += batch[head];
            }
            errors[head] = Math.sqrt(2 * losses[head] / whole);
        }
        return errors;
    }

    /**
     * L of every head over some batches, and its gradient.
     *
     * @param queryGradient by the query weights, F32 of their shape, overwritten; null where it is not wanted
     * @param keyGradient by the key weights, F32 of their shape, overwritten; null where it is not wanted
     * @param first batch, counted round and round
     * @param count of batches
     */
    public double[] gradient(Change query, Change key, View queryGradient, View keyGradient, int first, int count) {
        double[] losses = new double[layer.geometry.heads()];
        try (Scope local = scope.child()) {
            View loss = local.zeros(DType.F64, 1, losses.length);
            gradient(query, key, queryGradient, keyGradient, first, count, loss, backend::run);
            backend.copyOut(loss, MemorySegment.ofArray(losses));
        }
        return losses;
    }

    /**
     * The ops that make the same, in memory that this holds: they may run as often as one likes.
     *
     * @param loss L of every head, F64 1 x heads, added to
     * @param run takes an op after the other
     */
    public void gradient(
            Change query,
            Change key,
            View queryGradient,
            View keyGradient,
            int first,
            int count,
            View loss,
            Consumer<Op> run) {
        for (int i = 0; i < count; i++) {
            Batch batch = batches.get((first + i) % batches.size());
            Moved q = queries.moved(batch.input, query, batch.query, run);
            Moved k = keys.moved(batch.input, key, batch.key, run);
            View dq = queries.gradient(batch.query.rows());
            View dk = keys.gradient(batch.key.rows());
            run.accept(new AttentionResidual(
                    batch.query, batch.key, q.difference, k.difference, null, loss, dq, dk, layer.geometry));
            if (queryGradient != null) {
                View turned = queries.turned.cols(0, dq.rows());
                backward(dq, layer.query, q, batch.input, queryGradient, i > 0, turned, run);
            }
            if (keyGradient != null) {
                View turned = keys.turned.cols(0, dk.rows());
                backward(dk, layer.key, k, batch.input, keyGradient, i > 0, turned, run);
            }
        }
    }

    /**
     * The way of queries, or keys, from inputs and back, in memory for the largest batch, the first one. Held from its first use
     * on: freed memory would pile up in front of what has not run yet.
     */
    private final class Room {
        private final Projection projection;
        private final View dense;
        private View difference;
        private View gradient;
        /** The gradient with outputs as rows. */
        private View turned;
        /** Zeros. */
        private View unmoved;
        /** Before the norm. */
        private View raw;

        private View minusIdentity;

        Room(Projection projection, View dense) {
            this.projection = projection;
            this.dense = dense;
        }

        View gradient(long tokens) {
            if (gradient == null) {
                gradient = scope.matrix(dense.rows(), dense.cols());
                turned = scope.matrix(dense.cols(), dense.rows());
            }
            return gradient.rows(0, tokens);
        }

        Moved moved(View input, Change change, View before, Consumer<Op> run) {
            if (change == null && projection.gain == null) {
                if (unmoved == null) {
                    unmoved = scope.zeros(DType.F32, dense.rows(), dense.cols());
                }
                return new Moved(unmoved.rows(0, before.rows()), null);
            }
            if (difference == null) {
                difference = scope.matrix(dense.rows(), dense.cols());
            }
            View moved = difference.rows(0, before.rows());
            if (projection.gain == null) {
                // linear up to here, so that the difference goes through by itself
                run.accept(new Gemm(input, change.weight, true, change.bias, moved, false));
                rotate(moved, layer.sine, run);
                return new Moved(moved, null);
            }
            if (raw == null) {
                raw = scope.matrix(dense.rows(), dense.cols());
                minusIdentity = minusIdentity();
            }
            View own = raw.rows(0, before.rows());
            run.accept(new Gemm(input, projection.weight, true, projection.bias, own, false));
            if (change != null) {
                run.accept(new Gemm(input, change.weight, true, change.bias, own, true));
            }
            View heads = moved.reshape(moved.elements() / headSize(), headSize());
            View rawHeads = own.reshape(heads.rows(), heads.cols());
            run.accept(new RmsNorm(rawHeads, projection.gain, heads, projection.epsilon));
            rotate(moved, layer.sine, run);
            View headsBefore = before.reshape(heads.rows(), heads.cols());
            run.accept(new Gemm(headsBefore, minusIdentity, false, null, heads, true));
            return new Moved(moved, own);
        }

        private View minusIdentity() {
            float[] values = new float[headSize() * headSize()];
            for (int i = 0; i < headSize(); i++) {
                values[i * (headSize() + 1)] = -1;
            }
            return upload(values, headSize(), headSize(), scope);
        }
    }

    /**
     * Changed queries or keys.
     *
     * @param difference from the dense ones
     * @param raw themselves before their norm, null where there is none
     */
    private record Moved(View difference, View raw) {}

    private void backward(
            View gradient,
            Projection projection,
            Moved moved,
            View input,
            View byWeight,
            boolean more,
            View turned,
            Consumer<Op> run) {
        rotate(gradient, opposite, run);
        if (projection.gain != null) {
            View heads = gradient.reshape(gradient.elements() / headSize(), headSize());
            View raw = moved.raw.reshape(heads.rows(), heads.cols());
            run.accept(new RmsNormGradient(raw, projection.gain, heads, heads, projection.epsilon));
        }
        run.accept(new Cast(gradient, turned, true));
        run.accept(new Gemm(turned, input, false, null, byWeight, more));
    }

    /** The attention saliency of both projections, F32 of the shape of their weights on the host. */
    public record Saliency(MemorySegment query, MemorySegment key) {}

    /**
     * One attention matrix of the first window, tokens x tokens row by row, 0 where a key is not seen.
     *
     * @param query what is added to the query projection, null for nothing
     * @param key what is added to the key projection, null for nothing
     */
    public float[] matrix(int head, Change query, Change key) {
        int length = Math.toIntExact(layer.geometry.length());
        float[] matrix = new float[length * length];
        Batch batch = batches.getFirst();
        float[] q = moved(batch.query.rows(0, length), queries.moved(batch.input, query, batch.query, backend::run));
        float[] k = moved(batch.key.rows(0, length), keys.moved(batch.input, key, batch.key, backend::run));
        float[] row = new float[length];
        for (int token = 0; token < length; token++) {
            softmax(head, token, q, k, row);
            System.arraycopy(row, firstSeen(token), matrix, token * length + firstSeen(token), seen(token));
        }
        return matrix;
    }

    private float[] moved(View dense, Moved moved) {
        float[] values = host(dense);
        float[] difference = host(moved.difference.rows(0, dense.rows()));
        for (int i = 0; i < values.length; i++) {
            values[i] += difference[i];
        }
        return values;
    }

    /**
     * The diagonal of L's Hessian by masks at M = 1, {@code h_ij = sum (dP / dM_ij)^2}, estimated: with signs v drawn for the
     * elements of one window's attention matrices, the square of {@code sum v dP / dM_ij} has this as its mean, whatever the
     * other weights do. One draw a window leaves a relative standard deviation of at most {@code sqrt(2 / windows)}.
     *
     * @param most windows to use at most
     */
    public Saliency saliency(int most, long seed) {
        double[] query = new double[Math.toIntExact(layer.query.weight.elements())];
        double[] key = new double[Math.toIntExact(layer.key.weight.elements())];
        long length = layer.geometry.length();
        long every = Math.max(1, windows() / most);
        long window = 0;
        long used = 0;
        for (Batch batch : batches) {
            for (long at = 0; at < batch.input.rows(); at += length) {
                if (window++ % every == 0 && used < most) {
                    used++;
                    try (Scope local = scope.child()) {
                        probe(batch, at, new SplittableRandom(seed + window), query, key, local);
                    }
                }
            }
        }
        double share = (double) windows() / used;
        return new Saliency(
                MemorySegment.ofArray(weighted(query, layer.query.weight, share)),
                MemorySegment.ofArray(weighted(key, layer.key.weight, share)));
    }

    private float[] weighted(double[] squares, View weight, double share) {
        float[] w = host(weight);
        for (int i = 0; i < w.length; i++) {
            w[i] = (float) (share * squares[i] * w[i] * w[i]);
        }
        return w;
    }

    private void probe(Batch batch, long at, SplittableRandom random, double[] query, double[] key, Scope local) {
        long end = at + layer.geometry.length();
        View input = batch.input.rows(at, end);
        float[] q = host(batch.query.rows(at, end));
        float[] k = host(batch.key.rows(at, end));
        float[] dq = new float[q.length];
        float[] dk = new float[k.length];
        for (int head = 0; head < layer.geometry.heads(); head++) {
            probe(head, q, k, dq, dk, random.split());
        }
        square(dq, layer.query, input, query, local);
        square(dk, layer.key, input, key, local);
    }

    private void square(float[] gradient, Projection projection, View input, double[] squares, Scope local) {
        long outputs = projection.weight.rows();
        View view = upload(gradient, input.rows(), outputs, local);
        View byWeight = local.matrix(outputs, projection.weight.cols());
        View raw = null;
        if (projection.gain != null) {
            raw = local.matrix(input.rows(), outputs);
            backend.run(new Gemm(input, projection.weight, true, projection.bias, raw, false));
        }
        View turned = local.matrix(outputs, input.rows());
        backward(view, projection, new Moved(null, raw), input, byWeight, false, turned, backend::run);
        float[] values = host(byWeight);
        for (int i = 0; i < values.length; i++) {
            squares[i] += (double) values[i] * values[i];
        }
    }

    /** {@code S = scale A o (v - rowsum(A o v))}, then its products with keys and queries. */
    private void probe(int head, float[] q, float[] k, float[] dq, float[] dk, SplittableRandom random) {
        int size = headSize();
        int width = layer.geometry.heads() * size;
        int length = Math.toIntExact(layer.geometry.length());
        float[] row = new float[length];
        for (int token = 0; token < length; token++) {
            int from = token * width + head * size;
            int first = firstSeen(token);
            int end = first + seen(token);
            softmax(head, token, q, k, row);
            float mean = 0;
            long bits = 0;
            for (int other = first; other < end; other++) {
                bits = (other - first) % Long.SIZE == 0 ? random.nextLong() : bits >>> 1;
                // what is multiplied by v keeps its own size as its magnitude
                row[other] = (bits & 1) == 0 ? row[other] : -row[other];
                mean += row[other];
            }
            for (int other = first; other < end; other++) {
                float slope = layer.geometry.scale() * (row[other] - Math.abs(row[other]) * mean);
                int to = keyOffset(head, other);
                for (int i = 0; i < size; i++) {
                    dq[from + i] += slope * k[to + i];
                    dk[to + i] += slope * q[from + i];
                }
            }
        }
    }

    private int keyOffset(int head, int token) {
        int keyHeads = layer.geometry.keyHeads();
        return (token * keyHeads + head / (layer.geometry.heads() / keyHeads)) * headSize();
    }

    private int seen(int token) {
        return Math.toIntExact(keysSeen(token));
    }

    private int firstSeen(int token) {
        return layer.geometry.causal() ? token + 1 - seen(token) : 0;
    }

    /** One row of an attention matrix, at the keys that it sees. */
    private void softmax(int head, int token, float[] q, float[] k, float[] row) {
        int size = headSize();
        int from = (token * layer.geometry.heads() + head) * size;
        int first = firstSeen(token);
        int end = first + seen(token);
        float largest = Float.NEGATIVE_INFINITY;
        for (int other = first; other < end; other++) {
            int at = keyOffset(head, other);
            float dot = 0;
            for (int i = 0; i < size; i++) {
                dot += q[from + i] * k[at + i];
            }
            row[other] = dot * layer.geometry.scale();
            largest = Math.max(largest, row[other]);
        }
        float sum = 0;
        for (int other = first; other < end; other++) {
            row[other] = (float) Math.exp(row[other] - largest);
            sum += row[other];
        }
        for (int other = first; other < end; other++) {
            row[other] /= sum;
        }
    }
}

package org.sentei.method;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;
import org.sentei.kernel.Backend;
import org.sentei.kernel.BandStop;
import org.sentei.kernel.Scope;
import org.sentei.kernel.ScoreSelect.Selection;
import org.sentei.kernel.SoftHistogram;
import org.sentei.kernel.SoftHistogram.Bins;
import org.sentei.kernel.SoftHistogram.Mass;
import org.sentei.kernel.SoftHistogramGradient;
import org.sentei.kernel.View;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;

/**
 * The latent weights of all prunable tensors of a network, one behind the other in a row on a backend (2305.19343): the weights
 * that a band-stop filter lets through, how well their distribution agrees with a prior, and the mask of an exact budget.
 *
 * <p>A tensor's weight is {@code gain v psi(v)}; latent weights of all tensors have the same scale, so that one distribution and
 * one threshold fit all. Memory belongs to the scope that was given.
 */
public final class LatentWeights {
    /** Quantiles of a prior whose histogram stands for the prior's own. */
    private static final int QUANTILES = 1 << 16;

    private final Scope scope;
    private final Backend backend;
    private final List<Part> parts;
    private final int count;
    private final View latents;
    private final View weights;
    private final View slopes;

    /**
     * A tensor among them.
     *
     * @param count its weights
     * @param gain its weights' scale
     */
    public record Part(int count, float gain) {}

    /**
     * How the distribution of the latent weights lies to the prior's.
     *
     * @param divergence {@code D = sum_k p_k ln(p_k / q_k)} of their soft histograms
     * @param outside share of the weights that lie outside of the bins, which no gradient reaches
     */
    public record Alignment(double divergence, double outside) {}

    /**
     * Latent weights of 0.
     *
     * @param parts in the order of the tensors
     */
    public LatentWeights(Scope scope, List<Part> parts) {
        this.scope = scope;
        this.parts = List.copyOf(parts);
        backend = scope.backend();
        count = parts.stream().mapToInt(Part::count).reduce(0, Math::addExact);
        latents = scope.zeros(DType.F32, 1, count);
        weights = scope.matrix(1, count);
        slopes = scope.matrix(1, count);
    }

    /** Their number. */
    public int count() {
        return count;
    }

    /** Replaces the latent weights. */
    public void set(float[] values) {
        backend.copyIn(MemorySegment.ofArray(values), latents);
    }

    /**
     * The weights that pass, and the slopes by the latent weights.
     *
     * @param passed gets the weights
     * @param rise gets the slopes
     */
    public void pass(BandStop.Form form, float sharpness, float[] passed, float[] rise) {
        long first = 0;
        for (Part part : parts) {
            backend.run(new BandStop(
                    part(latents, first, part),
                    part(weights, first, part),
                    part(slopes, first, part),
                    form,
                    sharpness,
                    part.gain()));
            first += part.count();
        }
        backend.copyOut(weights, MemorySegment.ofArray(passed));
        backend.copyOut(slopes, MemorySegment.ofArray(rise));
    }

    private static View part(View all, long first, Part part) {
        return new View(
                all.buffer(), all.offset() + first * DType.F32.bytes(), 1, part.count(), part.count(), DType.F32);
    }

    /** Shares of a prior's mass in bins, smoothed as those of the latent weights are. */
    public double[] target(Prior prior, Bins bins, Mass kind) {
        float[] quantiles = new float[QUANTILES];
        for (int i = 0; i < QUANTILES; i++) {
            quantiles[i] = (float) prior.quantile((i + 0.5) / QUANTILES);
        }
        try (Scope local = scope.child()) {
            View values = local.matrix(1, QUANTILES);
            backend.copyIn(MemorySegment.ofArray(quantiles), values);
            double[] mass = new double[bins.count()];
            histogram(local, values, bins, kind, mass);
            return normalized(mass);
        }
    }

    /**
     * Compares the latent weights' distribution with a target, and adds the divergence's gradient.
     *
     * @param target shares q of the bins, all positive
     * @param factor what the gradient is multiplied by
     * @param gradient by the latent weights, added to
     */
    public Alignment align(Bins bins, Mass kind, double[] target, double factor, float[] gradient) {
        try (Scope local = scope.child()) {
            double[] mass = new double[bins.count()];
            long outside = histogram(local, latents, bins, kind, mass);
            double total = Arrays.stream(mass).sum();
            double[] share = normalized(mass);
            double divergence = 0;
            double[] log = new double[share.length];
            for (int k = 0; k < share.length; k++) {
                // The limit of p ln p is 0; an empty bin pulls with a finite force.
                log[k] = Math.log(Math.max(share[k], Double.MIN_NORMAL) / target[k]);
                divergence += share[k] * log[k];
            }
            float[] slope = new float[share.length];
            for (int k = 0; k < share.length; k++) {
                slope[k] = (float) (total > 0 ? (log[k] - divergence) / total : 0);
            }
            View bySlope = local.matrix(1, slope.length);
            backend.copyIn(MemorySegment.ofArray(slope), bySlope);
            View byLatent = local.matrix(1, count);
            backend.run(new SoftHistogramGradient(latents, bins, kind, bySlope, byLatent));
            float[] pull = new float[count];
            backend.copyOut(byLatent, MemorySegment.ofArray(pull));
            for (int i = 0; i < count; i++) {
                gradient[i] += (float) (factor * pull[i]);
            }
            return new Alignment(divergence, (double) outside / count);
        }
    }

    /** Writes the mass of every bin; returns how many values lie outside of them. */
    private long histogram(Scope local, View values, Bins bins, Mass kind, double[] sums) {
        View mass = local.zeros(DType.F64, 1, bins.count());
        View outside = local.zeros(DType.I64, 1, 1);
        backend.run(new SoftHistogram(values, bins, kind, mass, outside));
        long[] beyond = new long[1];
        backend.copyOut(mass, MemorySegment.ofArray(sums));
        backend.copyOut(outside, MemorySegment.ofArray(beyond));
        return beyond[0];
    }

    private static double[] normalized(double[] mass) {
        double total = Arrays.stream(mass).sum();
        return Arrays.stream(mass).map(value -> total > 0 ? value / total : 0).toArray();
    }

    /** Adds the gradient of {@code mean (v_(i) - q_i)^2}: sorted latent weights, drawn to the prior's quantiles. */
    public static double transport(float[] latents, Prior prior, double factor, float[] gradient) {
        Integer[] order = new Integer[latents.length];
        Arrays.setAll(order, i -> i);
        Arrays.sort(order, (a, b) -> Float.compare(latents[a], latents[b]));
        double loss = 0;
        for (int rank = 0; rank < order.length; rank++) {
            int index = order[rank];
            double away = latents[index] - prior.quantile((rank + 0.5) / order.length);
            loss += away * away / order.length;
            gradient[index] += (float) (factor * 2 * away / order.length);
        }
        return loss;
    }

    /**
     * Adds the gradient of {@code (mean psi(v_i) - kept)^2} with the filter {@link BandStop.Form.Tanh} (2412.12887, equation of
     * the budget, by shares instead of counts so that it does not grow with the network).
     *
     * @param kept share of the weights that the filter should let through
     * @param factor what the gradient is multiplied by
     * @param gradient by the latent weights, added to
     * @return the squared distance
     */
    public static double distance(float[] latents, double sharpness, double kept, double factor, float[] gradient) {
        double sum = 0;
        for (float latent : latents) {
            sum += Math.tanh(sharpness * latent * latent / 2);
        }
        double away = sum / latents.length - kept;
        for (int i = 0; i < latents.length; i++) {
            double filter = Math.tanh(sharpness * latents[i] * latents[i] / 2);
            double slope = sharpness * latents[i] * (1 - filter * filter);
            gradient[i] += (float) (factor * 2 * away * slope / latents.length);
        }
        return away * away;
    }

    /** Marks exactly the {@code prune} latent weights of least magnitude, equal ones by lower index; 1 x {@link #count}. */
    public BitMask smallest(long prune) {
        return Selector.select(scope, new Selector.Scored(latents, null), new Selection.Row(prune));
    }
}

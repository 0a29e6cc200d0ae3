package org.sentei.method;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.sentei.tensor.BitMask;

/**
 * Gradient descent on the mask of {@link MergedAttention}, ended by a mask of zeros and ones with an exact number of zeros.
 * Sequences that the gradient does not see decide which mask of the way is kept; a start that none of them beats is kept
 * itself.
 */
public final class MergedDescent {
    /** Share by which a step must lower L, of what its gradient promises (Armijo). */
    private static final double SUFFICIENT = 0.5;

    private static final double FIRST_DECAY = 0.9;
    private static final double SECOND_DECAY = 0.999;
    private static final double TINY = 1e-12;

    private final MergedAttention calibration;
    private final MergedAttention heldOut;
    private final int prune;

    /**
     * @param calibration what gradients are made of
     * @param heldOut what masks are judged by; the same weights
     * @param prune zeros of the mask, less than all
     */
    public MergedDescent(MergedAttention calibration, MergedAttention heldOut, int prune) {
        if (calibration.size() != heldOut.size() || prune < 0 || prune >= calibration.size()) {
            throw new IllegalArgumentException(
                    "cannot prune " + prune + " of " + calibration.size() + " and " + heldOut.size() + " weights");
        }
        this.calibration = calibration;
        this.heldOut = heldOut;
        this.prune = prune;
    }

    /**
     * A hard mask and the way to it.
     *
     * @param mask what is pruned, width x width
     * @param step after which it was found, 0 for the start
     * @param losses L of every step on the calibration sequences, without penalty for {@link #straightThrough}
     */
    public record Found(BitMask mask, int step, List<Double> losses) {
        public Found {
            losses = List.copyOf(losses);
        }
    }

    /** Prunes the smallest scores of a square matrix, equal scores by lower index. */
    public static BitMask hard(double[] scores, int width, int prune) {
        BitMask mask = BitMask.none(width, scores.length / width);
        Arrays.stream(order(scores)).limit(prune).forEach(index -> mask.set(index / width, index % width));
        return mask;
    }

    private BitMask hard(double[] scores) {
        return hard(scores, calibration.width(), prune);
    }

    private static int[] order(double[] scores) {
        return IntStream.range(0, scores.length)
                .boxed()
                .sorted((a, b) -> Double.compare(scores[a], scores[b]))
                .mapToInt(Integer::intValue)
                .toArray();
    }

    /**
     * The paper's: projected descent of a mask in [0, 1] that starts from ones. A step is halved until L falls enough, and
     * doubled for the next one. Near ones M settles at {@code h / (h + penalty)}, so its order is the ranking.
     *
     * @param start mask to keep when none of the way is better
     * @param steps most steps
     * @param share penalty as a share of the saliency that separates what is pruned from what is kept; 0.1 to 0.3 work
     */
    public Found soft(BitMask start, int steps, double share) {
        double[] saliency = calibration.saliency();
        double penalty = share * saliency[order(saliency)[Math.max(0, prune - 1)]];
        double[] mask = new double[calibration.size()];
        Arrays.fill(mask, 1);
        double[] gradient = new double[mask.length];
        double step = 1 / (Arrays.stream(saliency).max().orElseThrow() + penalty);
        Best best = new Best(start);
        List<Double> losses = new ArrayList<>();
        for (int t = 1; t <= steps; t++) {
            double loss = calibration.gradient(mask, penalty, gradient);
            losses.add(loss);
            double[] next = null;
            for (double least = step * 0x1p-40; step >= least; step /= 2) {
                double[] tried = projected(mask, gradient, step);
                double promised = 0;
                for (int i = 0; i < tried.length; i++) {
                    promised += (mask[i] - tried[i]) * gradient[i];
                }
                if (calibration.loss(tried, penalty) <= loss - SUFFICIENT * promised) {
                    next = tried;
                    break;
                }
            }
            if (next == null || Arrays.equals(next, mask)) {
                break;
            }
            mask = next;
            best.offer(hard(mask), t);
            step *= 2;
        }
        return best.found(losses);
    }

    private static double[] projected(double[] mask, double[] gradient, double step) {
        double[] moved = new double[mask.length];
        for (int i = 0; i < mask.length; i++) {
            moved[i] = Math.clamp(mask[i] - step * gradient[i], 0, 1);
        }
        return moved;
    }

    /**
     * Real scores, of which the hard mask is what the loss sees and the gradient passes to unchanged; Adam (1412.6980). The
     * scores start as the ranks of others, from 0 to 1.
     *
     * @param ranking scores to start from, such as {@link MergedAttention#saliency}
     * @param steps of the descent
     * @param rate Adam's, in ranks
     */
    public Found straightThrough(double[] ranking, int steps, double rate) {
        int size = calibration.size();
        double[] scores = new double[size];
        int[] order = order(ranking);
        for (int rank = 0; rank < size; rank++) {
            scores[order[rank]] = (double) rank / size;
        }
        double[] first = new double[size];
        double[] second = new double[size];
        double[] gradient = new double[size];
        Best best = new Best(hard(scores));
        List<Double> losses = new ArrayList<>();
        for (int t = 1; t <= steps; t++) {
            losses.add(calibration.gradient(MergedAttention.kept(hard(scores)), 0, gradient));
            double firstBias = 1 - Math.pow(FIRST_DECAY, t);
            double secondBias = 1 - Math.pow(SECOND_DECAY, t);
            for (int i = 0; i < size; i++) {
                double slope = gradient[i];
                first[i] = FIRST_DECAY * first[i] + (1 - FIRST_DECAY) * slope;
                second[i] = SECOND_DECAY * second[i] + (1 - SECOND_DECAY) * slope * slope;
                scores[i] -= rate * (first[i] / firstBias) / (Math.sqrt(second[i] / secondBias) + TINY);
            }
            best.offer(hard(scores), t);
        }
        return best.found(losses);
    }

    /** The mask with the smallest loss on what is held out. */
    private final class Best {
        private BitMask mask;
        private double loss;
        private int step;

        Best(BitMask start) {
            mask = start;
            loss = loss(start);
        }

        void offer(BitMask candidate, int at) {
            double its = loss(candidate);
            if (its < loss) {
                mask = candidate;
                loss = its;
                step = at;
            }
        }

        private double loss(BitMask candidate) {
            return heldOut.loss(MergedAttention.kept(candidate), 0);
        }

        Found found(List<Double> losses) {
            return new Found(mask, step, losses);
        }
    }
}

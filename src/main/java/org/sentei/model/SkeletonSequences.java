package org.sentei.model;

import java.util.Arrays;
import java.util.stream.IntStream;

/** Sequences of skeletons, each with a label: places of joints in space, frame after frame. */
public final class SkeletonSequences implements LabelledExamples {
    /** Coordinates of a joint. */
    public static final int DIMENSIONS = GraphNetwork.Skeletons.DIMENSIONS;

    private static final int MOST = 1 << 30;

    private final int joints;
    private final int classes;
    private final int[] starts;
    private final float[] places;
    private final int[] labels;
    private final Split[] splits;

    /**
     * Sequences. Numbers must be in range: readers check them where they can name the line.
     *
     * @param joints of a frame, those of all people in it
     * @param starts frame that each sequence begins with, and behind the last their number
     * @param places finite coordinates, frames x joints x {@link #DIMENSIONS}
     * @param labels from 0, one a sequence
     */
    public SkeletonSequences(int joints, int[] starts, float[] places, int[] labels, Split[] splits) {
        this.joints = joints;
        this.starts = starts.clone();
        this.places = places.clone();
        this.labels = labels.clone();
        this.splits = splits.clone();
        classes = Arrays.stream(labels).max().orElse(-1) + 1;
    }

    /** Sequences there are. */
    public int count() {
        return labels.length;
    }

    /** Joints of a frame. */
    public int joints() {
        return joints;
    }

    /** Frames of a sequence. */
    public int frames(int sequence) {
        return starts[sequence + 1] - starts[sequence];
    }

    /** Places of a sequence's joints, frames x joints x {@link #DIMENSIONS}. */
    public float[] places(int sequence) {
        int frame = joints * DIMENSIONS;
        return Arrays.copyOfRange(places, starts[sequence] * frame, starts[sequence + 1] * frame);
    }

    @Override
    public int classes() {
        return classes;
    }

    @Override
    public int label(int sequence) {
        return labels[sequence];
    }

    @Override
    public int[] members(Split split) {
        return IntStream.range(0, count()).filter(i -> splits[i] == split).toArray();
    }

    /**
     * What a network sees of the sequences, whatever their length: each is cut into chunks of equal length, and a joint's signal
     * is its mean place in every one. Where there are fewer frames than chunks, a chunk without one takes the nearest. A sequence
     * is centred and scaled to unit variance, so that neither the place of the people nor their size matters.
     *
     * @return sequences x joints x (chunks x {@link #DIMENSIONS})
     * @throws ModelException when they are more than an array holds
     */
    public float[] signals(int chunks) {
        int signal = chunks * DIMENSIONS;
        if ((double) count() * joints * signal > MOST) {
            throw new ModelException("skeleton sequences: the signals of " + count() + " sequences in " + chunks
                    + " chunks do not fit in memory; give fewer of either");
        }
        float[] signals = new float[count() * joints * signal];
        for (int sequence = 0; sequence < count(); sequence++) {
            int first = sequence * joints * signal;
            for (int chunk = 0; chunk < chunks; chunk++) {
                int begin = (int) ((long) chunk * frames(sequence) / chunks);
                int end = Math.max(begin + 1, (int) ((chunk + 1L) * frames(sequence) / chunks));
                for (int joint = 0; joint < joints; joint++) {
                    for (int axis = 0; axis < DIMENSIONS; axis++) {
                        double sum = 0;
                        for (int frame = begin; frame < end; frame++) {
                            sum += places[((starts[sequence] + frame) * joints + joint) * DIMENSIONS + axis];
                        }
                        signals[first + joint * signal + chunk * DIMENSIONS + axis] = (float) (sum / (end - begin));
                    }
                }
            }
            standardize(signals, first, joints * signal);
        }
        return signals;
    }

    private static void standardize(float[] signals, int first, int count) {
        double[] centre = new double[DIMENSIONS];
        for (int i = 0; i < count; i++) {
            centre[i % DIMENSIONS] += (double) signals[first + i] * DIMENSIONS / count;
        }
        double square = 0;
        for (int i = 0; i < count; i++) {
            double away = signals[first + i] - centre[i % DIMENSIONS];
            square += away * away / count;
        }
        for (int i = 0; i < count; i++) {
            double away = signals[first + i] - centre[i % DIMENSIONS];
            signals[first + i] = square > 0 ? (float) (away / Math.sqrt(square)) : 0;
        }
    }
}

package org.sentei.format;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.function.Function;
import org.sentei.model.LabelledExamples.Split;
import org.sentei.model.SkeletonSequences;

/** Collects sequences of skeletons joint by joint. */
final class SkeletonBuilder {
    private static final int MOST = 1 << 29;

    private final List<Integer> starts = new ArrayList<>();
    private final List<Integer> labels = new ArrayList<>();
    private final List<Split> splits = new ArrayList<>();
    private float[] places = new float[1 << 12];
    private int size;
    /** Places before the frame that is being read. */
    private int frame;

    /** Of a frame; 0 as long as none has ended. */
    private int joints;

    /** Begins a sequence; the frame before has been ended. */
    void begin(int label, Split split) {
        starts.add(joints == 0 ? 0 : size / (joints * SkeletonSequences.DIMENSIONS));
        labels.add(label);
        splits.add(split);
    }

    void add(float x, float y, float z) {
        if (size > MOST) {
            throw new FormatException("skeleton sequences: more than " + MOST + " coordinates; give fewer sequences");
        }
        if (size + SkeletonSequences.DIMENSIONS > places.length) {
            places = Arrays.copyOf(places, places.length + (places.length >> 1));
        }
        places[size++] = x;
        places[size++] = y;
        places[size++] = z;
    }

    /**
     * Ends a frame, which has as many joints as the first.
     *
     * @param wrong what is thrown when it has not
     */
    void endFrame(Function<String, FormatException> wrong) {
        int found = (size - frame) / SkeletonSequences.DIMENSIONS;
        if (joints != 0 && found != joints) {
            throw wrong.apply("a frame that ends here has " + found + " joints, the first frame " + joints
                    + ": give the same joints in every frame");
        }
        joints = found;
        frame = size;
    }

    /**
     * The sequences.
     *
     * @param source what messages name
     */
    SkeletonSequences build(Object source) {
        if (labels.isEmpty()) {
            throw new FormatException(source + " has no sequences: give some to train and some to test");
        }
        if (size > frame) {
            endFrame(fact -> new FormatException(source + ", at its end: " + fact));
        }
        starts.add(size / (joints * SkeletonSequences.DIMENSIONS));
        for (Split split : List.of(Split.TRAIN, Split.TEST)) {
            if (!splits.contains(split)) {
                throw new FormatException(source + " has no sequence of the split "
                        + split.name().toLowerCase(Locale.ROOT) + ": training needs some of train and of test");
            }
        }
        return new SkeletonSequences(
                joints,
                starts.stream().mapToInt(Integer::intValue).toArray(),
                Arrays.copyOf(places, size),
                labels.stream().mapToInt(Integer::intValue).toArray(),
                splits.toArray(Split[]::new));
    }
}

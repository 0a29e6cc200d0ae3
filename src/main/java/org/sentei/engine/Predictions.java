package org.sentei.engine;

import java.util.List;
import java.util.Optional;
import org.sentei.model.ModelException;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Tensor;

/** What the scores of one sample say. */
final class Predictions {
    private Predictions() {}

    /**
     * The number of the largest score, or the text of a recogniser.
     *
     * @param output 1 x classes, or 1 x steps x classes
     * @param keys characters of the classes from 1 on; 0 is none, the class behind the last key a space. Repeated classes are one
     *     (greedy decoding of connectionist temporal classification), spaces are left out
     * @throws ModelException if a score is NaN, or the output does not fit the keys
     */
    static String read(Tensor output, Optional<List<String>> keys) {
        float[] scores = Floats.toArray(output);
        if (keys.isEmpty()) {
            return Integer.toString(largest(output, scores, 0, scores.length));
        }
        int rank = output.shape().rank();
        int classes = rank == 0 ? 0 : Math.toIntExact(output.shape().dimension(rank - 1));
        if (rank != 3 || classes != keys.get().size() + 2) {
            throw new ModelException("output " + output.name() + " is " + output.shape() + ", but keys.txt has "
                    + keys.get().size() + " characters and needs steps of two classes more; give the model's own keys");
        }
        StringBuilder text = new StringBuilder();
        int last = 0;
        for (int from = 0; from < scores.length; from += classes) {
            int best = largest(output, scores, from, classes);
            if (best != last && best != 0 && best <= keys.get().size()) {
                text.append(keys.get().get(best - 1));
            }
            last = best;
        }
        return text.toString();
    }

    private static int largest(Tensor output, float[] scores, int from, int count) {
        int best = 0;
        for (int i = 0; i < count; i++) {
            if (Float.isNaN(scores[from + i])) {
                throw new ModelException("output " + output.name() + " is NaN at " + (from + i)
                        + ", so nothing can be read from it; compare with the model before it was changed");
            }
            if (scores[from + i] > scores[from + best]) {
                best = i;
            }
        }
        return best;
    }
}

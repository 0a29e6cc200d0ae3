package org.sentei.engine.training;

import org.sentei.engine.RunException;
import org.sentei.model.LabelledExamples;

/** What a network's scores of labelled examples come to. */
final class Scores {
    private Scores() {}

    /**
     * Share of the examples whose own label has the largest score, the first of equal ones.
     *
     * @param chosen examples, at least one
     * @param scores chosen x classes, packed row by row
     * @param context behind the fact in the error about a score that is not finite: what had it, and the remedy
     * @throws RunException when a score is not finite
     */
    static double accuracy(LabelledExamples examples, int[] chosen, float[] scores, String context) {
        int classes = scores.length / chosen.length;
        int right = 0;
        for (int i = 0; i < chosen.length; i++) {
            int best = best(scores, i, classes, "example " + chosen[i], context);
            right += best == examples.label(chosen[i]) ? 1 : 0;
        }
        return (double) right / chosen.length;
    }

    /**
     * The class of the largest score of a row, the first of equal ones.
     *
     * @param subject what the error names whose score is not finite
     */
    static int best(float[] scores, int row, int classes, String subject, String context) {
        int best = 0;
        for (int c = 0; c < classes; c++) {
            float score = scores[row * classes + c];
            if (!Float.isFinite(score)) {
                throw new RunException(subject + " has a score of " + score + " " + context);
            }
            best = score > scores[row * classes + best] ? c : best;
        }
        return best;
    }
}

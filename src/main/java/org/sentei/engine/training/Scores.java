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
            int best = 0;
            for (int c = 0; c < classes; c++) {
                float score = scores[i * classes + c];
                if (!Float.isFinite(score)) {
                    throw new RunException("example " + chosen[i] + " has a score of " + score + " " + context);
                }
                best = score > scores[i * classes + best] ? c : best;
            }
            right += best == examples.label(chosen[i]) ? 1 : 0;
        }
        return (double) right / chosen.length;
    }
}

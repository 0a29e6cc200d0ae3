package org.sentei.engine.training;

import java.util.SplittableRandom;

/**
 * Makes training images anew at every step: moved by up to so many pixels along both axes, with what comes in from outside
 * blank, and mirrored left to right every other time.
 *
 * @param shift pixels
 * @param flip whether images are mirrored
 */
record Augmentation(int shift, boolean flip) {
    /**
     * Draws an image.
     *
     * @param image channels x rows x columns from its offset on
     * @param blank what each channel has where there is no image
     * @param drawn gets it from its own offset on
     */
    void draw(
            SplittableRandom random,
            LabelledImages.Form form,
            float[] image,
            int offset,
            float[] blank,
            float[] drawn,
            int to) {
        int down = shift == 0 ? 0 : random.nextInt(-shift, shift + 1);
        int right = shift == 0 ? 0 : random.nextInt(-shift, shift + 1);
        boolean mirrored = flip && random.nextBoolean();
        int at = to;
        for (int c = 0; c < form.channels(); c++) {
            for (int y = 0; y < form.rows(); y++) {
                for (int x = 0; x < form.columns(); x++) {
                    int row = y - down;
                    int column = (mirrored ? form.columns() - 1 - x : x) - right;
                    boolean inside = row >= 0 && row < form.rows() && column >= 0 && column < form.columns();
                    drawn[at++] = inside ? image[offset + (c * form.rows() + row) * form.columns() + column] : blank[c];
                }
            }
        }
    }
}

package org.sentei.model;

import org.sentei.kernel.View;

/**
 * What every block must know of a batch besides its hidden states; on the device.
 *
 * @param visible I32 sequences x length, 0 for padding; null when there is none
 * @param angles null for models without rotary positions
 */
public record BatchGeometry(long sequences, long length, View visible, Angles angles) {
    /** That of some consecutive sequences, {@code first} to {@code end} (exclusive). */
    BatchGeometry sequences(long first, long end) {
        return new BatchGeometry(end - first, length, visible == null ? null : visible.rows(first, end), angles);
    }

    /**
     * Rotary angles of every position.
     *
     * @param cosine F32 length x (headSize / 2)
     * @param sine F32 length x (headSize / 2)
     */
    public record Angles(View cosine, View sine) {}
}

package org.sentei.model;

import org.sentei.kernel.Attention;

/**
 * Two sites whose outputs, heads side by side, meet in the softmax of attention.
 *
 * @param query makes heads * headSize outputs
 * @param key makes keyHeads * headSize outputs
 * @param keyHeads a divisor of heads: consecutive query heads share one
 * @param scale factor of their products
 * @param causal whether a token sees only itself and those before it
 * @param window tokens a query sees at most, itself included; 0 for no limit
 */
public record AttentionPair(
        Site query, Site key, int heads, int keyHeads, int headSize, float scale, boolean causal, long window) {
    /** Refuses sites of another shape with an {@link IllegalArgumentException}. */
    public AttentionPair {
        if (query.rows() != (long) heads * headSize
                || key.rows() != (long) keyHeads * headSize
                || query.cols() != key.cols()
                || !query.input().equals(key.input())) {
            throw new IllegalArgumentException(query.name() + " of " + query.rows() + " outputs and " + key.name()
                    + " of " + key.rows() + " are not " + heads + " and " + keyHeads + " heads of " + headSize
                    + " from one input");
        }
    }

    /** For windows of this many tokens. */
    public Attention.Geometry geometry(long length) {
        return new Attention.Geometry(heads, keyHeads, headSize, length, scale, causal, window);
    }
}

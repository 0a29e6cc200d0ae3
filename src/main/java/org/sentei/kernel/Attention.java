package org.sentei.kernel;

import java.util.ArrayList;
import java.util.List;
import org.sentei.tensor.DType;

/**
 * Softmax attention, head by head: {@code output = softmax(scale * query * key^T) * value} within each sequence.
 *
 * <p>Sequences of {@code geometry.length()} tokens stand one below the other. Query head h reads key/value head
 * {@code h / (heads / keyHeads)}. A query that may see no key gives a row of zeros.
 *
 * @param query F32 tokens x (heads * headSize)
 * @param key F32 tokens x (keyHeads * headSize)
 * @param value F32 tokens x (keyHeads * headSize)
 * @param visible I32 sequences x length, non-zero where a key may be seen (padding is 0), or null when all may
 * @param output F32 tokens x (heads * headSize)
 */
public record Attention(View query, View key, View value, View visible, View output, Geometry geometry) implements Op {
    /**
     * Heads, sequences and masking.
     *
     * @param keyHeads key/value heads, a divisor of {@code heads} (grouped-query attention)
     * @param length tokens of a sequence
     * @param causal whether token i sees only tokens up to i
     * @param window with causal: token i sees only tokens above i - window; 0 for no limit
     */
    public record Geometry(
            int heads, int keyHeads, int headSize, long length, float scale, boolean causal, long window) {
        /** Checks the ranges; an {@link IllegalArgumentException} names what is outside. */
        public Geometry {
            Check.that(
                    heads >= 1 && keyHeads >= 1 && heads % keyHeads == 0 && headSize >= 1 && length >= 1,
                    "attention",
                    "geometry of " + heads + " heads, " + keyHeads + " key heads of " + headSize + ", length " + length
                            + " is malformed");
            Check.that(
                    window >= 0 && (window == 0 || causal),
                    "attention",
                    "a window needs a causal mask and a size >= 0");
        }
    }

    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public Attention {
        long tokens = query.rows();
        long keyWidth = (long) geometry.keyHeads * geometry.headSize;
        long width = (long) geometry.heads * geometry.headSize;
        Check.shape("attention", "query", query, DType.F32, tokens, width);
        Check.shape("attention", "key", key, DType.F32, tokens, keyWidth);
        Check.shape("attention", "value", value, DType.F32, tokens, keyWidth);
        Check.shape("attention", "output", output, DType.F32, tokens, width);
        Check.that(
                tokens % geometry.length == 0,
                "attention",
                tokens + " tokens are not whole sequences of " + geometry.length);
        if (visible != null) {
            Check.shape("attention", "visible", visible, DType.I32, tokens / geometry.length, geometry.length);
        }
        Check.apart("attention", output, query, key, value, visible);
    }

    @Override
    public List<View> reads() {
        List<View> views = new ArrayList<>(List.of(query, key, value));
        if (visible != null) {
            views.add(visible);
        }
        return views;
    }

    @Override
    public List<View> writes() {
        return List.of(output);
    }

    @Override
    public long operations() {
        long pairs = query.rows() * geometry.length * geometry.heads;
        return 4 * pairs * geometry.headSize / (geometry.causal ? 2 : 1);
    }
}

package org.sentei.kernel;

import java.util.ArrayList;
import java.util.List;
import org.sentei.tensor.DType;

/**
 * How far pruning moves the attention matrices of a layer, and which way back: loss and gradient of attention-matrix pruning
 * (2410.11261) with separate query and key weights.
 *
 * <p>Head by head, with {@code A} the dense weights {@code softmax(scale q k')} and {@code P} the pruned ones
 * {@code softmax(scale (q + dq) (k + dk)')}, the residual is {@code R = P - A} and
 *
 * <pre>
 *   loss             += 1/2 sum R^2
 *   S                 = scale P o (R - rowsum(P o R))
 *   queryGradient     = S (k + dk)
 *   keyGradient       = S' (q + dq), summed over the query heads of a key head
 * </pre>
 *
 * The gradients are those of the loss with respect to the pruned queries and keys, which stand behind bias, norm and rotary
 * embedding. Pruned operands come as differences from the dense ones, so that a residual keeps its digits however small it is.
 *
 * <p>Sequences, heads and masking are those of {@link Attention}. Padding counts neither as key nor as query; a query that may
 * see no key adds nothing and its gradient is 0. A query whose own elements or those of a key it sees are not all finite makes
 * NaN of the loss of its head, of its gradient and of those of all keys it sees.
 *
 * @param query F32 tokens x (heads * headSize)
 * @param key F32 tokens x (keyHeads * headSize)
 * @param queryDifference pruned minus dense queries, of the shape of {@code query}
 * @param keyDifference pruned minus dense keys, of the shape of {@code key}
 * @param visible I32 sequences x length, 0 where a token is padding, or null when none is
 * @param loss F64 1 x heads, added to
 * @param queryGradient of the shape of {@code query}, or null together with {@code keyGradient} for the loss alone
 * @param keyGradient of the shape of {@code key}, or null
 */
public record AttentionResidual(
        View query,
        View key,
        View queryDifference,
        View keyDifference,
        View visible,
        View loss,
        View queryGradient,
        View keyGradient,
        Attention.Geometry geometry)
        implements Op {
    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public AttentionResidual {
        String name = "attention_residual";
        long tokens = query.rows();
        long keyWidth = (long) geometry.keyHeads() * geometry.headSize();
        long width = (long) geometry.heads() * geometry.headSize();
        Check.shape(name, "query", query, DType.F32, tokens, width);
        Check.shape(name, "key", key, DType.F32, tokens, keyWidth);
        Check.shape(name, "query difference", queryDifference, DType.F32, tokens, width);
        Check.shape(name, "key difference", keyDifference, DType.F32, tokens, keyWidth);
        Check.shape(name, "loss", loss, DType.F64, 1, geometry.heads());
        Check.that(
                tokens % geometry.length() == 0,
                name,
                tokens + " tokens are not whole sequences of " + geometry.length());
        if (visible != null) {
            Check.shape(name, "visible", visible, DType.I32, tokens / geometry.length(), geometry.length());
        }
        Check.that((queryGradient == null) == (keyGradient == null), name, "the gradients come together");
        Check.apart(name, loss, query, key, queryDifference, keyDifference, visible, queryGradient, keyGradient);
        if (queryGradient != null) {
            Check.shape(name, "query gradient", queryGradient, DType.F32, tokens, width);
            Check.shape(name, "key gradient", keyGradient, DType.F32, tokens, keyWidth);
            Check.apart(name, queryGradient, query, key, queryDifference, keyDifference, visible, keyGradient);
            Check.apart(name, keyGradient, query, key, queryDifference, keyDifference, visible);
        }
    }

    @Override
    public List<View> reads() {
        List<View> views = new ArrayList<>(List.of(query, key, queryDifference, keyDifference, loss));
        if (visible != null) {
            views.add(visible);
        }
        return views;
    }

    @Override
    public List<View> writes() {
        return queryGradient == null ? List.of(loss) : List.of(loss, queryGradient, keyGradient);
    }

    /** Of three products for the logits and their differences, and of two for the gradients. */
    @Override
    public long operations() {
        long pairs = query.rows() * geometry.length() * geometry.heads();
        long products = queryGradient == null ? 3 : 5;
        return 2 * products * pairs * geometry.headSize() / (geometry.causal() ? 2 : 1);
    }
}

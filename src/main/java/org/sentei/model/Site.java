package org.sentei.model;

import java.util.List;

/**
 * A weight matrix that a method can edit: one linear layer.
 *
 * @param name the layer's name, for example {@code model.layers.0.self_attn.q_proj}; what recipes match and reports print
 * @param weight name of the weight tensor in the file
 * @param bias name of the bias tensor, or null when the layer has none
 * @param rows outputs
 * @param cols inputs
 * @param transposed true when the file stores cols x rows (inputs first)
 * @param block index of the block it belongs to; -1 outside of blocks
 * @param input key of the activation it reads: sites of a block with equal keys read the same values
 */
public record Site(
        String name,
        String weight,
        String bias,
        long rows,
        long cols,
        boolean transposed,
        Role role,
        int block,
        String input) {

    /** What a layer does in its block. */
    public enum Role {
        /** Makes the queries of attention. */
        QUERY(true),
        /** Makes the keys. */
        KEY(true),
        /** Makes the values. */
        VALUE(true),
        /** Makes queries, keys and values in one matrix. */
        QUERY_KEY_VALUE(true),
        /** Mixes what the heads have gathered. */
        ATTENTION_OUTPUT(false),
        /** Gates the inner features of the feed-forward part. */
        GATE(true),
        /** Makes the inner features. */
        UP(true),
        /** Brings the inner features back to the width of the model. */
        DOWN(false),
        /** Makes the logits. */
        HEAD(true),
        /** Any other linear layer. */
        OTHER(true);

        private final boolean readsNormalized;

        Role(boolean readsNormalized) {
            this.readsNormalized = readsNormalized;
        }

        /** Whether layers of this role read the output of a normalization: the by-name rule of STADE-W. */
        public boolean readsNormalized() {
            return readsNormalized;
        }
    }

    /** Weights without the bias: {@code rows * cols}. */
    public long parameters() {
        return rows * cols;
    }

    /** Names of its tensors in the file. */
    public List<String> tensors() {
        return bias == null ? List.of(weight) : List.of(weight, bias);
    }
}

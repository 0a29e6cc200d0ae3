package org.sentei.model;

import java.util.List;
import java.util.Map;
import org.sentei.kernel.Activate;

/**
 * A transformer as data: everything the shared forward pass ({@link Transformer}) must know, tensor names included. A
 * walker of {@link Architectures} makes one from a configuration; null names mean that the part does not exist.
 *
 * @param modelType {@code model_type} of the configuration
 * @param width components of a hidden state
 * @param heads query heads
 * @param keyHeads key/value heads
 * @param maximumLength tokens a sequence may have
 * @param postNorm whether norms follow the residual additions instead of preceding the layers
 * @param causal whether a token sees only itself and those before it
 * @param finalNorm base name of the norm after the last block, or null
 * @param head how logits are made, or null for a model whose output is its last hidden state
 * @param biasFlags configuration key that decides whether the layers of a role have biases; roles without one are absent
 */
public record TransformerSpec(
        String modelType,
        int width,
        int heads,
        int keyHeads,
        int headSize,
        int maximumLength,
        Norm norm,
        boolean postNorm,
        Activate.Function activation,
        boolean causal,
        Positions positions,
        Embeddings embeddings,
        List<Block> blocks,
        String finalNorm,
        Head head,
        Map<Site.Role, String> biasFlags) {

    /** Copies blocks and flags. */
    public TransformerSpec {
        blocks = List.copyOf(blocks);
        biasFlags = Map.copyOf(biasFlags);
    }

    /** Kind and epsilon of all norms of a model; a norm's tensors are its base name and {@code .weight}, {@code .bias}. */
    public record Norm(Kind kind, float epsilon) {
        /** Which function it is. */
        public enum Kind {
            /** Gain only. */
            RMS,
            /** Gain and bias. */
            LAYER
        }
    }

    /**
     * What turns token ids into the first hidden states.
     *
     * @param tokens name of the table vocabulary x tableWidth
     * @param projection name of the matrix width x tableWidth that widens table rows, or null when they have full width
     * @param types name of the table types x width whose row 0 is added to every token, or null
     * @param norm base name of a norm over the sum, or null
     */
    public record Embeddings(
            String tokens,
            long vocabulary,
            long tableWidth,
            String projection,
            String types,
            long typeCount,
            String norm) {}

    /**
     * One block: attention, then feed-forward, each with a norm and a residual addition.
     *
     * @param attentionNorm base name of the norm that belongs to the attention
     * @param queryNorm base name of the RMS norm over each query head, or null
     * @param keyNorm the same for keys
     * @param feedForwardNorm base name of the norm that belongs to the feed-forward part
     * @param sites linear layers in the order they run; no role occurs twice
     * @param window tokens a query sees at most, itself included; 0 for no limit
     * @param scale factor of the attention scores
     */
    public record Block(
            String attentionNorm,
            String queryNorm,
            String keyNorm,
            String feedForwardNorm,
            List<Site> sites,
            long window,
            float scale) {
        /** Copies the sites. */
        public Block {
            sites = List.copyOf(sites);
        }
    }

    /**
     * From the last hidden states to logits.
     *
     * @param projection name of the matrix tableWidth x width applied first, or null
     * @param site the linear layer; its weight is the token table when {@code tied}
     */
    public record Head(String projection, Site site, boolean tied) {}
}

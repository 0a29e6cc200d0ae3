package org.sentei.model;

import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.function.IntUnaryOperator;
import org.sentei.model.Site.Role;
import org.sentei.model.SpecReader.Layers;

/** Llama and the architectures that follow it: RMS norms, rotary positions, gated feed-forward, grouped heads. */
final class LlamaFamily {
    /** What transformers assumes when a configuration that wants a window does not give its size. */
    private static final int DEFAULT_WINDOW = 4096;

    private LlamaFamily() {}

    /**
     * In what the members differ.
     *
     * @param queryBias whether query, key and value have biases
     * @param headNorm whether each query and key head is normalized
     * @param windows tokens that queries of a block see at most, 0 for no limit
     */
    private record Member(
            int headSize,
            boolean queryBias,
            boolean outputBias,
            boolean feedForwardBias,
            boolean headNorm,
            IntUnaryOperator windows,
            Map<Role, String> biasFlags) {}

    static TransformerSpec llama(SpecReader reader) {
        boolean attentionBias = reader.flag("attention_bias", false);
        Map<Role, String> flags = attentionFlags();
        for (Role role : List.of(Role.GATE, Role.UP, Role.DOWN)) {
            flags.put(role, "mlp_bias");
        }
        boolean mlpBias = reader.flag("mlp_bias", false);
        return decoder(
                reader,
                new Member(sharedHeadSize(reader), attentionBias, attentionBias, mlpBias, false, block -> 0, flags));
    }

    static TransformerSpec mistral(SpecReader reader) {
        int window = reader.config().isNull("sliding_window") ? 0 : reader.positiveOr("sliding_window", DEFAULT_WINDOW);
        return decoder(
                reader, new Member(sharedHeadSize(reader), false, false, false, false, block -> window, Map.of()));
    }

    static TransformerSpec qwen2(SpecReader reader) {
        return decoder(
                reader, new Member(sharedHeadSize(reader), true, false, false, false, windows(reader), Map.of()));
    }

    static TransformerSpec qwen3(SpecReader reader) {
        boolean bias = reader.flag("attention_bias", false);
        int headSize = reader.positiveOr("head_dim", 128);
        return decoder(reader, new Member(headSize, bias, bias, false, true, windows(reader), attentionFlags()));
    }

    private static Map<Role, String> attentionFlags() {
        Map<Role, String> flags = new EnumMap<>(Role.class);
        for (Role role : List.of(Role.QUERY, Role.KEY, Role.VALUE, Role.ATTENTION_OUTPUT)) {
            flags.put(role, "attention_bias");
        }
        return flags;
    }

    private static int sharedHeadSize(SpecReader reader) {
        return reader.config().contains("head_dim")
                ? reader.positive("head_dim")
                : reader.headShare(
                        reader.positive("hidden_size"), "num_attention_heads", reader.positive("num_attention_heads"));
    }

    /** Windows of Qwen: those of {@code layer_types}, else from {@code max_window_layers} on. */
    private static IntUnaryOperator windows(SpecReader reader) {
        List<String> types = reader.config().getStrings("layer_types");
        int blocks = reader.blocks("num_hidden_layers");
        if (!types.isEmpty() && types.size() != blocks) {
            throw reader.wrong("layer_types", types.size() + " entries", "are not " + blocks + ", one a layer");
        }
        for (String type : types) {
            if (!type.equals("full_attention") && !type.equals("sliding_attention")) {
                throw reader.unsupported("layer_types", type, "full_attention and sliding_attention");
            }
        }
        if (!reader.flag("use_sliding_window", false)) {
            return block -> 0;
        }
        int window = reader.positiveOr("sliding_window", DEFAULT_WINDOW);
        int first = reader.config().getInt("max_window_layers", 28);
        return block -> (types.isEmpty() ? block >= first : types.get(block).equals("sliding_attention")) ? window : 0;
    }

    private static TransformerSpec decoder(SpecReader reader, Member member) {
        int width = reader.positive("hidden_size");
        int heads = reader.positive("num_attention_heads");
        int keyHeads = reader.keyHeads("num_key_value_heads", heads);
        int headSize = member.headSize();
        if (headSize % 2 != 0) {
            throw reader.wrong("head_dim", headSize, "must be even for rotary positions");
        }
        long queryWidth = (long) heads * headSize;
        long keyWidth = (long) keyHeads * headSize;
        long inner = reader.positive("intermediate_size");
        String prefix = reader.prefix("embed_tokens.weight", "model.", "");

        List<TransformerSpec.Block> blocks = new ArrayList<>();
        int count = reader.blocks("num_hidden_layers");
        for (int block = 0; block < count; block++) {
            String base = prefix + "layers." + block + ".";
            Layers layers = new Layers(base, block, false);
            boolean queryBias = member.queryBias();
            boolean innerBias = member.feedForwardBias();
            List<Site> sites = List.of(
                    layers.site(Role.QUERY, "self_attn.q_proj", queryWidth, width, queryBias, "self_attn.input"),
                    layers.site(Role.KEY, "self_attn.k_proj", keyWidth, width, queryBias, "self_attn.input"),
                    layers.site(Role.VALUE, "self_attn.v_proj", keyWidth, width, queryBias, "self_attn.input"),
                    layers.site(
                            Role.ATTENTION_OUTPUT,
                            "self_attn.o_proj",
                            width,
                            queryWidth,
                            member.outputBias(),
                            "self_attn.heads"),
                    layers.site(Role.GATE, "mlp.gate_proj", inner, width, innerBias, "mlp.input"),
                    layers.site(Role.UP, "mlp.up_proj", inner, width, innerBias, "mlp.input"),
                    layers.site(Role.DOWN, "mlp.down_proj", width, inner, innerBias, "mlp.inner"));
            blocks.add(new TransformerSpec.Block(
                    base + "input_layernorm",
                    member.headNorm() ? base + "self_attn.q_norm" : null,
                    member.headNorm() ? base + "self_attn.k_norm" : null,
                    base + "post_attention_layernorm",
                    sites,
                    member.windows().applyAsInt(block),
                    (float) (1 / Math.sqrt(headSize))));
        }
        TransformerSpec.Embeddings embeddings = new TransformerSpec.Embeddings(
                prefix + "embed_tokens.weight", reader.positive("vocab_size"), width, null, null, 0, null);
        return new TransformerSpec(
                reader.config().getString("model_type"),
                width,
                heads,
                keyHeads,
                headSize,
                reader.positive("max_position_embeddings"),
                reader.norm(TransformerSpec.Norm.Kind.RMS, "rms_norm_eps", 1e-6),
                false,
                reader.activation("hidden_act", "silu"),
                true,
                reader.rotary(),
                embeddings,
                blocks,
                prefix + "norm",
                reader.head(null, "lm_head", embeddings, reader.flag("tie_word_embeddings", false)),
                member.biasFlags());
    }
}

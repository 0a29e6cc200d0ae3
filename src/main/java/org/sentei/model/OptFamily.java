package org.sentei.model;

import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import org.sentei.model.Site.Role;
import org.sentei.model.SpecReader.Layers;

/** OPT (2205.01068): layer norms before or after, learned positions that start at row 2, biases everywhere or nowhere. */
final class OptFamily {
    private static final int POSITION_OFFSET = 2;

    private OptFamily() {}

    static TransformerSpec opt(SpecReader reader) {
        reader.expect("layer_norm_elementwise_affine", true);
        int width = reader.positive("hidden_size");
        int heads = reader.positive("num_attention_heads");
        int headSize = reader.headShare(width, "num_attention_heads", heads);
        long inner = reader.positive("ffn_dim");
        int tableWidth = reader.positiveOr("word_embed_proj_dim", width);
        boolean projected = tableWidth != width;
        boolean bias = reader.flag("enable_bias", true);
        boolean preNorm = reader.flag("do_layer_norm_before", true);
        boolean finalNorm = preNorm && !reader.flag("_remove_final_layer_norm", false);
        int positions = reader.positive("max_position_embeddings");
        String prefix = reader.prefix("embed_tokens.weight", "model.decoder.", "decoder.");

        List<TransformerSpec.Block> blocks = new ArrayList<>();
        int count = reader.blocks("num_hidden_layers");
        for (int block = 0; block < count; block++) {
            String base = prefix + "layers." + block + ".";
            Layers layers = new Layers(base, block, false);
            List<Site> sites = List.of(
                    layers.site(Role.QUERY, "self_attn.q_proj", width, width, bias, "self_attn.input"),
                    layers.site(Role.KEY, "self_attn.k_proj", width, width, bias, "self_attn.input"),
                    layers.site(Role.VALUE, "self_attn.v_proj", width, width, bias, "self_attn.input"),
                    layers.site(Role.ATTENTION_OUTPUT, "self_attn.out_proj", width, width, bias, "self_attn.heads"),
                    layers.site(Role.UP, "fc1", inner, width, bias, "fc1.input"),
                    layers.site(Role.DOWN, "fc2", width, inner, bias, "fc2.input"));
            blocks.add(new TransformerSpec.Block(
                    base + "self_attn_layer_norm", null, null, base + "final_layer_norm", sites, 0, (float)
                            (1 / Math.sqrt(headSize))));
        }
        Map<Role, String> flags = new EnumMap<>(Role.class);
        blocks.getFirst().sites().forEach(site -> flags.put(site.role(), "enable_bias"));
        TransformerSpec.Embeddings embeddings = new TransformerSpec.Embeddings(
                prefix + "embed_tokens.weight",
                reader.positive("vocab_size"),
                tableWidth,
                projected ? prefix + "project_in.weight" : null,
                null,
                0,
                null);
        return new TransformerSpec(
                reader.config().getString("model_type"),
                width,
                heads,
                heads,
                headSize,
                positions,
                // The epsilon is that of PyTorch's LayerNorm; the configuration has none.
                new TransformerSpec.Norm(TransformerSpec.Norm.Kind.LAYER, 1e-5f),
                !preNorm,
                reader.activation("activation_function", "relu"),
                true,
                new Positions.Learned(
                        prefix + "embed_positions.weight", (long) positions + POSITION_OFFSET, POSITION_OFFSET, true),
                embeddings,
                blocks,
                finalNorm ? prefix + "final_layer_norm" : null,
                reader.head(
                        projected ? prefix + "project_out.weight" : null,
                        "lm_head",
                        embeddings,
                        reader.flag("tie_word_embeddings", true)),
                flags);
    }
}

package org.sentei.model;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.sentei.model.Site.Role;
import org.sentei.model.SpecReader.Layers;

/** GPT-2: layer norms before, learned positions, query, key and value in one matrix, weights stored inputs first. */
final class Gpt2Family {
    private Gpt2Family() {}

    static TransformerSpec gpt2(SpecReader reader) {
        reader.expect("add_cross_attention", false);
        int width = reader.positive("n_embd");
        int heads = reader.positive("n_head");
        int headSize = reader.headShare(width, "n_head", heads);
        long inner = reader.config().contains("n_inner") ? reader.positive("n_inner") : 4L * width;
        int positions = reader.positive("n_positions");
        boolean scaled = reader.flag("scale_attn_weights", true);
        boolean scaledByDepth = reader.flag("scale_attn_by_inverse_layer_idx", false);
        String prefix = reader.prefix("wte.weight", "transformer.", "");

        List<TransformerSpec.Block> blocks = new ArrayList<>();
        int count = reader.blocks("n_layer");
        for (int block = 0; block < count; block++) {
            String base = prefix + "h." + block + ".";
            Layers layers = new Layers(base, block, true);
            List<Site> sites = List.of(
                    layers.site(Role.QUERY_KEY_VALUE, "attn.c_attn", 3L * width, width, true, "attn.input"),
                    layers.site(Role.ATTENTION_OUTPUT, "attn.c_proj", width, width, true, "attn.heads"),
                    layers.site(Role.UP, "mlp.c_fc", inner, width, true, "mlp.input"),
                    layers.site(Role.DOWN, "mlp.c_proj", width, inner, true, "mlp.inner"));
            double scale = (scaled ? 1 / Math.sqrt(headSize) : 1) / (scaledByDepth ? block + 1 : 1);
            blocks.add(new TransformerSpec.Block(base + "ln_1", null, null, base + "ln_2", sites, 0, (float) scale));
        }
        TransformerSpec.Embeddings embeddings = new TransformerSpec.Embeddings(
                prefix + "wte.weight", reader.positive("vocab_size"), width, null, null, 0, null);
        return new TransformerSpec(
                reader.config().getString("model_type"),
                width,
                heads,
                heads,
                headSize,
                positions,
                reader.norm(TransformerSpec.Norm.Kind.LAYER, "layer_norm_epsilon", 1e-5),
                false,
                reader.activation("activation_function", "gelu_new"),
                true,
                new Positions.Learned(prefix + "wpe.weight", positions, 0, false),
                embeddings,
                blocks,
                prefix + "ln_f",
                reader.head(null, "lm_head", embeddings, reader.flag("tie_word_embeddings", true)),
                Map.of());
    }
}

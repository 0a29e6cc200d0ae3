package org.sentei.model;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.sentei.model.Site.Role;
import org.sentei.model.SpecReader.Layers;

/** BERT (1810.04805): an encoder with layer norms after, learned positions and token types; no head is computed. */
final class BertFamily {
    private BertFamily() {}

    static TransformerSpec bert(SpecReader reader) {
        reader.expect("is_decoder", false);
        reader.expect("add_cross_attention", false);
        String kind = reader.config().getString("position_embedding_type", "absolute");
        if (!kind.equals("absolute")) {
            throw reader.unsupported("position_embedding_type", kind, "absolute");
        }
        int width = reader.positive("hidden_size");
        int heads = reader.positive("num_attention_heads");
        int headSize = reader.headShare(width, "num_attention_heads", heads);
        long inner = reader.positive("intermediate_size");
        int positions = reader.positive("max_position_embeddings");
        String prefix = reader.prefix("embeddings.word_embeddings.weight", "bert.", "");

        List<TransformerSpec.Block> blocks = new ArrayList<>();
        int count = reader.blocks("num_hidden_layers");
        for (int block = 0; block < count; block++) {
            String base = prefix + "encoder.layer." + block + ".";
            Layers layers = new Layers(base, block, false);
            List<Site> sites = List.of(
                    layers.site(Role.QUERY, "attention.self.query", width, width, true, "attention.input"),
                    layers.site(Role.KEY, "attention.self.key", width, width, true, "attention.input"),
                    layers.site(Role.VALUE, "attention.self.value", width, width, true, "attention.input"),
                    layers.site(Role.ATTENTION_OUTPUT, "attention.output.dense", width, width, true, "attention.heads"),
                    layers.site(Role.UP, "intermediate.dense", inner, width, true, "intermediate.input"),
                    layers.site(Role.DOWN, "output.dense", width, inner, true, "output.input"));
            blocks.add(new TransformerSpec.Block(
                    base + "attention.output.LayerNorm", null, null, base + "output.LayerNorm", sites, 0, (float)
                            (1 / Math.sqrt(headSize))));
        }
        String embeddings = prefix + "embeddings.";
        return new TransformerSpec(
                reader.config().getString("model_type"),
                width,
                heads,
                heads,
                headSize,
                positions,
                reader.norm(TransformerSpec.Norm.Kind.LAYER, "layer_norm_eps", 1e-12),
                true,
                reader.activation("hidden_act", "gelu"),
                false,
                new Positions.Learned(embeddings + "position_embeddings.weight", positions, 0, false),
                new TransformerSpec.Embeddings(
                        embeddings + "word_embeddings.weight",
                        reader.positive("vocab_size"),
                        width,
                        null,
                        embeddings + "token_type_embeddings.weight",
                        reader.positiveOr("type_vocab_size", 2),
                        embeddings + "LayerNorm"),
                blocks,
                null,
                null,
                Map.of());
    }
}

package org.sentei.model;

import java.util.Map;
import java.util.Optional;
import org.sentei.kernel.Activate;

/** What walkers share: checked numbers of a configuration, and names as the file has them. */
final class SpecReader {
    private static final Map<String, Activate.Function> ACTIVATIONS = Map.of(
            "relu", Activate.Function.RELU,
            "gelu", Activate.Function.GELU,
            "gelu_new", Activate.Function.GELU_TANH,
            "gelu_fast", Activate.Function.GELU_TANH,
            "gelu_pytorch_tanh", Activate.Function.GELU_TANH,
            "silu", Activate.Function.SILU,
            "swish", Activate.Function.SILU);

    private final ModelConfig config;
    private final TensorSource tensors;

    SpecReader(ModelConfig config, TensorSource tensors) {
        this.config = config;
        this.tensors = tensors;
    }

    ModelConfig config() {
        return config;
    }

    boolean flag(String key, boolean absent) {
        return config.getBoolean(key, absent);
    }

    int positive(String key) {
        return positive(key, config.getInt(key));
    }

    int positiveOr(String key, int absent) {
        return positive(key, config.getInt(key, absent));
    }

    /** Number of blocks; a file cannot have more of them than tensors, which bounds what a walker builds. */
    int blocks(String key) {
        int blocks = positive(key);
        if (blocks > tensors.names().size()) {
            throw wrong(
                    key, blocks, "cannot exceed the file's " + tensors.names().size() + " tensors");
        }
        return blocks;
    }

    TransformerSpec.Norm norm(TransformerSpec.Norm.Kind kind, String key, double absent) {
        double epsilon = config.getDouble(key, absent);
        if (!(epsilon >= 0)) {
            throw wrong(key, epsilon, "must not be negative");
        }
        return new TransformerSpec.Norm(kind, (float) epsilon);
    }

    Activate.Function activation(String key, String absent) {
        String name = config.getString(key, absent);
        Activate.Function function = ACTIVATIONS.get(name);
        if (function == null) {
            throw unsupported(
                    key,
                    name,
                    String.join(", ", ACTIVATIONS.keySet().stream().sorted().toList()));
        }
        return function;
    }

    /** Refuses a model whose flag has another value than the one the forward pass computes. */
    void expect(String key, boolean supported) {
        if (config.getBoolean(key, supported) != supported) {
            throw unsupported(key, !supported, supported);
        }
    }

    /** Components of a head when all heads together are as wide as the model. */
    int headShare(int width, String key, int heads) {
        if (width % heads != 0) {
            throw wrong(key, heads, "does not divide the width " + width);
        }
        return width / heads;
    }

    int keyHeads(String key, int heads) {
        int keyHeads = positiveOr(key, heads);
        if (heads % keyHeads != 0) {
            throw wrong(key, keyHeads, "does not divide the " + heads + " attention heads");
        }
        return keyHeads;
    }

    /** Rotary settings in the form of transformers 5 ({@code rope_parameters}) or 4 ({@code rope_theta, rope_scaling}). */
    Positions.Rotary rotary() {
        Optional<ModelConfig> object = config.getObject("rope_parameters").or(() -> config.getObject("rope_scaling"));
        double theta = config.getDouble("rope_theta", 10000);
        double part = config.getDouble("partial_rotary_factor", 1);
        Positions.Scaling scaling = new Positions.Unscaled();
        if (object.isPresent()) {
            ModelConfig rope = object.get();
            theta = rope.getDouble("rope_theta", theta);
            part = rope.getDouble("partial_rotary_factor", part);
            scaling = scaling(rope);
        }
        if (!(theta > 0)) {
            throw wrong("rope_theta", theta, "must be positive");
        }
        if (part != 1) {
            throw unsupported("partial_rotary_factor", part, 1);
        }
        return new Positions.Rotary(theta, scaling);
    }

    private Positions.Scaling scaling(ModelConfig rope) {
        if (rope.contains("full_attention") || rope.contains("sliding_attention")) {
            throw unsupported("rope_parameters", "one object a layer type", "one for all layers");
        }
        String type = rope.getString("rope_type", rope.getString("type", "default"));
        return switch (type) {
            case "default" -> new Positions.Unscaled();
            case "linear" -> new Positions.Linear(positive(rope, "factor"));
            case "llama3" -> {
                double low = positive(rope, "low_freq_factor");
                double high = positive(rope, "high_freq_factor");
                if (!(high > low)) {
                    throw wrong("high_freq_factor", high, "must exceed \"low_freq_factor\" " + low);
                }
                double context = positive(rope, "original_max_position_embeddings");
                yield new Positions.Llama3(positive(rope, "factor"), low, high, (long) context);
            }
            default -> throw unsupported("rope_type", type, "default, linear, llama3");
        };
    }

    private double positive(ModelConfig object, String key) {
        double value = object.getDouble(key);
        if (!(value > 0)) {
            throw wrong(key, value, "must be positive");
        }
        return value;
    }

    private int positive(String key, int value) {
        if (value < 1) {
            throw wrong(key, value, "must be at least 1");
        }
        return value;
    }

    /** The first candidate under which the file has {@code probe}. */
    String prefix(String probe, String... candidates) {
        for (String candidate : candidates) {
            if (tensors.contains(candidate + probe)) {
                return candidate;
            }
        }
        throw new ModelException("the weights beside " + config.file() + " have no tensor "
                + String.join(probe + " or ", candidates) + probe + ", which every " + config.getString("model_type")
                + " model has; take weights and config.json from one model");
    }

    /** The output layer over the tokens: its own matrix or the token table. */
    TransformerSpec.Head head(String projection, String name, TransformerSpec.Embeddings embeddings, boolean tied) {
        String weight = tied ? embeddings.tokens() : name + ".weight";
        Site site = new Site(
                name, weight, null, embeddings.vocabulary(), embeddings.tableWidth(), false, Site.Role.HEAD, -1, name);
        return new TransformerSpec.Head(projection, site, tied);
    }

    /** The configuration is right, but asks for what the forward pass does not compute. */
    ModelException unsupported(String key, Object value, Object supported) {
        return new ModelException(config.file() + ": \"" + key + "\" " + value + " is not supported, only " + supported
                + "; choose a model that does without it");
    }

    ModelException wrong(String key, Object value, String fact) {
        return new ModelException(config.file() + ": \"" + key + "\" " + value + " " + fact
                + "; take the config.json that belongs to these weights");
    }

    /** Makes the sites of one block. */
    static final class Layers {
        private final String prefix;
        private final int block;
        private final boolean transposed;

        /** @param prefix what all names of the block begin with, dot included */
        Layers(String prefix, int block, boolean transposed) {
            this.prefix = prefix;
            this.block = block;
            this.transposed = transposed;
        }

        /** @param input what the layer reads; equal within a block for layers that read the same values */
        Site site(Site.Role role, String name, long rows, long cols, boolean bias, String input) {
            String full = prefix + name;
            return new Site(
                    full,
                    full + ".weight",
                    bias ? full + ".bias" : null,
                    rows,
                    cols,
                    transposed,
                    role,
                    block,
                    prefix + input);
        }
    }
}

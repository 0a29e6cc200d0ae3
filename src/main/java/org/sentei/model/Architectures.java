package org.sentei.model;

import java.util.Map;
import java.util.SortedSet;
import java.util.TreeSet;

/** The supported architectures: which walker reads which {@code model_type}. */
public final class Architectures {
    private static final Map<String, Walker> WALKERS = Map.of(
            "llama", LlamaFamily::llama,
            "mistral", LlamaFamily::mistral,
            "qwen2", LlamaFamily::qwen2,
            "qwen3", LlamaFamily::qwen3,
            "opt", OptFamily::opt,
            "gpt2", Gpt2Family::gpt2,
            "bert", BertFamily::bert);

    /** Turns a configuration into data for the shared forward pass. */
    private interface Walker {
        TransformerSpec walk(SpecReader reader);
    }

    private Architectures() {}

    /** The supported values of {@code model_type}. */
    public static SortedSet<String> supported() {
        return new TreeSet<>(WALKERS.keySet());
    }

    /**
     * Reads the architecture of a model.
     *
     * @param tensors consulted for names only: files may or may not carry the name of the base model as a prefix
     * @throws ModelException for an unsupported architecture or a configuration that makes no sense
     */
    public static TransformerSpec read(ModelConfig config, TensorSource tensors) {
        String type = config.getString("model_type");
        Walker walker = WALKERS.get(type);
        if (walker == null) {
            throw new ModelException(config.file() + ": model_type \"" + type + "\" is not supported; there are "
                    + String.join(", ", supported()));
        }
        return walker.walk(new SpecReader(config, tensors));
    }
}

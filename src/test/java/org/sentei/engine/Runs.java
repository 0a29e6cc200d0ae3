package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.report.Report;
import org.sentei.format.HuggingFaceFolder;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.model.Site;
import org.sentei.model.Transformer;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Tensor;

/** Compressions of the small models through the façade, and looks at what they wrote. */
final class Runs {
    static final Path RESOURCES = Path.of("src/test/resources");
    static final Path CALIBRATION = RESOURCES.resolve("text/calibration.txt");
    static final Path HELD_OUT = RESOURCES.resolve("text/heldout.txt");

    /** Entries of the golden models' vocabulary, for which {@link #words} makes a tokenizer. */
    private static final int VOCABULARY = 97;

    private Runs() {}

    static Path model(String name) {
        return RESOURCES.resolve("models", name);
    }

    /** A request with the austen models' calibration text on the fastest backend. */
    static CompressionRequest request(Path model, String recipe) {
        return CompressionRequest.of(model, Recipes.parse(recipe)).withCalibration(CALIBRATION);
    }

    static Report run(CompressionRequest request, Path output) {
        return run(request, output, Progress.NONE);
    }

    static Report run(CompressionRequest request, Path output, Progress progress) {
        try (Plan plan = Sentei.plan(request)) {
            return plan.run(output, progress);
        }
    }

    static double perplexity(Path model, int length) {
        return perplexity(model, HELD_OUT, length);
    }

    static double perplexity(Path model, Path text, int length) {
        return Sentei.evaluate(
                        new Sentei.EvaluationRequest(
                                model,
                                Optional.empty(),
                                text,
                                Optional.empty(),
                                Optional.of(length),
                                Backends.AUTO,
                                Backend.Options.defaults()),
                        Progress.NONE)
                .getFirst()
                .value();
    }

    /** The golden models have no tokenizer: one that takes words w0, w1, ... for their numbers. */
    static Path wordTokenizer(Path folder) throws IOException {
        String vocabulary = IntStream.range(0, VOCABULARY)
                .mapToObj(word -> "\"w" + word + "\": " + word)
                .collect(Collectors.joining(", "));
        return Files.writeString(folder.resolve("words.json"), """
                {"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
                 "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
                 "model": {"type": "WordLevel", "unk_token": "w0", "vocab": {%s}}}
                """.formatted(vocabulary));
    }

    /** A text of random words for {@link #wordTokenizer}. */
    static Path words(Path folder, int count) throws IOException {
        SplittableRandom random = new SplittableRandom(11);
        String text =
                random.ints(count, 0, VOCABULARY).mapToObj(word -> "w" + word).collect(Collectors.joining(" "));
        return Files.writeString(folder.resolve("words.txt"), text);
    }

    static List<Site> sites(Path model) {
        try (HuggingFaceFolder folder = HuggingFaceFolder.open(model)) {
            return Transformer.of(folder.config(), folder).sites();
        }
    }

    static byte[] bytes(Tensor tensor) {
        byte[] bytes = new byte[Math.toIntExact(tensor.data().byteSize())];
        MemorySegment.copy(tensor.data(), 0, MemorySegment.ofArray(bytes), 0, bytes.length);
        return bytes;
    }

    /** The site's weights, rows (outputs) x cols (inputs), whatever the file's orientation. */
    static float[][] weights(HuggingFaceFolder folder, Site site) {
        float[] stored = Floats.toArray(folder.tensor(site.weight()));
        int rows = Math.toIntExact(site.rows());
        int cols = Math.toIntExact(site.cols());
        float[][] weights = new float[rows][cols];
        for (int row = 0; row < rows; row++) {
            for (int col = 0; col < cols; col++) {
                weights[row][col] = stored[site.transposed() ? col * rows + row : row * cols + col];
            }
        }
        return weights;
    }

    /** Every file below a folder by its relative name, sorted. */
    static List<String> files(Path folder) {
        if (!Files.exists(folder)) {
            return List.of();
        }
        try (Stream<Path> files = Files.walk(folder)) {
            return new ArrayList<>(files.filter(Files::isRegularFile)
                    .map(file -> folder.relativize(file).toString())
                    .sorted()
                    .toList());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /**
     * The masks of all targeted sites, after checking everything that holds for every output: kept weights have their bits,
     * pruned ones are +0, what is no site's keeps its bytes, and the report says what is in the file.
     */
    static Map<String, boolean[][]> masks(Path model, Path output, Report report) {
        Map<String, boolean[][]> masks = new HashMap<>();
        try (HuggingFaceFolder source = HuggingFaceFolder.open(model);
                HuggingFaceFolder written = HuggingFaceFolder.open(output)) {
            Set<String> edited = new HashSet<>();
            Map<String, Site> sites = new HashMap<>();
            sites(model).forEach(site -> sites.put(site.name(), site));
            for (Report.SiteResult result : report.sites()) {
                Site site = sites.get(result.name());
                edited.add(site.weight());
                if (result.bias() != null && !result.bias().equals("kept")) {
                    edited.add(site.bias());
                }
                float[][] before = weights(source, site);
                float[][] after = weights(written, site);
                boolean[][] mask = new boolean[before.length][before[0].length];
                long pruned = 0;
                for (int row = 0; row < before.length; row++) {
                    for (int col = 0; col < before[row].length; col++) {
                        int bits = Float.floatToRawIntBits(after[row][col]);
                        mask[row][col] = bits == 0;
                        pruned += mask[row][col] ? 1 : 0;
                        boolean kept = bits == Float.floatToRawIntBits(before[row][col]);
                        if (before[row][col] == 0 || !(mask[row][col] || kept)) {
                            throw new AssertionError(site.name() + "[" + row + ", " + col + "] was " + before[row][col]
                                    + " and became " + after[row][col] + "; fixtures have no zeros");
                        }
                    }
                }
                masks.put(site.name(), mask);
                assertThat(result.pruned()).as(site.name()).isEqualTo(pruned).isEqualTo(result.zeros());
                assertThat(result.parameters()).isEqualTo(site.rows() * site.cols());
                assertThat(result.sparsity()).isEqualTo((double) pruned / site.parameters());
            }
            for (String name : source.names()) {
                if (!edited.contains(name)) {
                    assertThat(bytes(written.tensor(name))).as(name).isEqualTo(bytes(source.tensor(name)));
                }
            }
            assertThat(report.totals().zeros())
                    .isEqualTo(report.sites().stream()
                            .mapToLong(Report.SiteResult::zeros)
                            .sum());
        }
        return masks;
    }
}

package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.report.Report;
import org.sentei.format.FormatException;
import org.sentei.format.SyntheticLlama;
import org.sentei.kernel.Backend;

/** Statistics that are collected apart from the compression, in shards. */
class StatisticsTest {
    private static final Path LLAMA = Runs.model("austen-llama");
    /** Seven batches: five that a bias is fitted to and two that are held out. */
    private static final String WINDOWS = "calibration: {samples: 200, length: 128, sequential: false}\n";

    private static final String EVERYTHING = """
            steps:
              - {method: stade, sparsity: 0.5, targets: ["*self_attn*"]}
              - {method: wanda, sparsity: 0.4, scope: global, targets: ["*gate_proj", "*up_proj"]}
              - {method: stade, variant: policy, bias: off, sparsity: 0.6, scope: layer, targets: ["*down_proj"]}
            """ + WINDOWS;
    private static final String SMALL = """
            steps: [{method: stade, sparsity: 0.5, bias: off, targets: ["model.layers.0.*"]}]
            calibration: {samples: 64, length: 128, sequential: false}
            """;

    @TempDir
    private Path folder;

    private Path collect(CompressionRequest request, int index, int count) {
        Path file = folder.resolve("shard-" + index + "-of-" + count + ".safetensors");
        try (Plan plan = Sentei.plan(request)) {
            plan.saveStatistics(new Shard(index, count), file, Progress.NONE);
        }
        return file;
    }

    private static CompressionRequest with(Path statistics, String recipe) {
        return CompressionRequest.of(LLAMA, Recipes.parse(recipe)).withStatistics(statistics);
    }

    @Test
    void shardsInAnyOrderGiveTheFilesOfASinglePass() throws IOException {
        CompressionRequest request = Runs.request(LLAMA, EVERYTHING);
        Path single = folder.resolve("single");
        Runs.run(request, single);

        Path whole = collect(request, 1, 1);
        Path output = folder.resolve("out");
        Report report = Runs.run(with(whole, EVERYTHING), output);
        assertThat(report.sites()).hasSize(28).allMatch(site -> site.error() == null);
        assertThat(report.calibration().samples()).isEqualTo(200);
        assertThat(report.calibration().tokens()).isEqualTo(200 * 128);
        assertThat(Runs.files(output)).isEqualTo(Runs.files(single));
        for (String file : Runs.files(single)) {
            if (!file.startsWith("report.")) {
                assertThat(Files.mismatch(single.resolve(file), output.resolve(file)))
                        .as(file)
                        .isEqualTo(-1);
            }
        }

        for (int count : new int[] {2, 7}) {
            List<Path> shards = new ArrayList<>();
            for (int index = 1; index <= count; index++) {
                shards.add(collect(request, index, count));
            }
            for (int seed = 0; seed < 4; seed++) {
                Collections.shuffle(shards, new Random(seed));
                Path merged = folder.resolve("merged-" + count + "-" + seed);
                assertThat(Sentei.mergeStatistics(shards, merged).batches()).isEqualTo(7);
                assertThat(Files.mismatch(whole, merged)).as("%s", shards).isEqualTo(-1);
            }
            Path half = folder.resolve("half-" + count);
            Sentei.mergeStatistics(shards.subList(0, count / 2), half);
            List<Path> rest = new ArrayList<>(shards.subList(count / 2, count));
            rest.add(half);
            Path twice = folder.resolve("twice-" + count);
            Sentei.mergeStatistics(rest, twice);
            assertThat(Files.mismatch(whole, twice)).isEqualTo(-1);
        }
    }

    @Test
    void batchesThatMemoryHalvedAreWarnedOfWhereverTheirSumsGo() throws IOException {
        Path model = folder.resolve("synthetic");
        SyntheticLlama.TINY.write(model, 1, _ -> {});
        String recipe = """
                steps: [{method: stade, sparsity: 0.5, targets: ['*q_proj']}]
                calibration: {samples: 64, length: 64, sequential: false}
                """;
        CompressionRequest free = Runs.request(model, recipe).on("cpu", Backend.Options.defaults());
        CompressionRequest tight = free.on("cpu", Backend.Options.defaults().withMemory(5_000_000));

        Path whole = folder.resolve("whole");
        assertThat(Sentei.mergeStatistics(List.of(collect(free, 1, 2), collect(free, 2, 2)), whole)
                        .mayRoundDifferently())
                .isFalse();
        for (CompressionRequest second : List.of(free, tight)) {
            Files.deleteIfExists(folder.resolve("shard-1-of-2.safetensors"));
            Files.deleteIfExists(folder.resolve("shard-2-of-2.safetensors"));
            Path merged = folder.resolve("merged-" + second.options().memoryBytes());
            Sentei.Collected collected =
                    Sentei.mergeStatistics(List.of(collect(tight, 1, 2), collect(second, 2, 2)), merged);
            assertThat(collected.mayRoundDifferently()).isTrue();
            try (Plan plan = Sentei.plan(CompressionRequest.of(model, Recipes.parse(recipe))
                    .on("cpu", Backend.Options.defaults())
                    .withStatistics(merged))) {
                assertThat(plan.warnings())
                        .anySatisfy(warning -> assertThat(warning)
                                .contains("may round differently", "batches halved for lack of memory"));
            }
        }
        assertThat(Runs.run(tight, folder.resolve("tight")).warnings())
                .anySatisfy(warning -> assertThat(warning).contains("held only half a batch"));
        assertThat(Runs.run(free, folder.resolve("free")).warnings())
                .noneSatisfy(warning -> assertThat(warning).contains("half a batch"));
    }

    @Test
    void whatDoesNotBelongTogetherIsNotMerged() throws IOException {
        Path first = collect(Runs.request(LLAMA, SMALL), 1, 2);
        Path second = collect(Runs.request(LLAMA, SMALL), 2, 2);
        Path other = collect(Runs.request(LLAMA, SMALL).withCalibration(Runs.HELD_OUT), 2, 3);
        Path merged = folder.resolve("merged");
        refused(() -> Sentei.mergeStatistics(List.of(first, first), merged), "overlaps", first.toString());
        refused(() -> Sentei.mergeStatistics(List.of(first, other), merged), "calibration was", other.toString());
        refused(() -> Sentei.mergeStatistics(List.of(first, second), second), "exists already");
        refused(() -> Sentei.mergeStatistics(List.of(LLAMA.resolve("model.safetensors")), merged), "sentei stats");
        refused(() -> Sentei.mergeStatistics(List.of(folder.resolve("nothing")), merged), "does not exist");

        byte[] bytes = Files.readAllBytes(first);
        bytes[bytes.length / 2] ^= 1;
        Path damaged = Files.write(folder.resolve("damaged"), bytes);
        refused(() -> Sentei.mergeStatistics(List.of(damaged, second), merged), "hash", damaged.toString());
        assertThat(merged).doesNotExist();

        refused(() -> Sentei.plan(with(first, SMALL)), "1 of 3 batches", "merge-stats");
        Sentei.mergeStatistics(List.of(first, second), merged);
        refused(() -> Sentei.plan(with(merged, SMALL.replace("64,", "63,"))), "calibration.samples was 64 there");
        refused(() -> Sentei.plan(with(merged, SMALL.replace("layers.0", "layers.1"))), "model.layers.1.", "targets");
        refused(
                () -> Runs.run(
                        CompressionRequest.of(
                                        Runs.model("austen-opt"), Recipes.parse(SMALL.replace("model.layers.0.*", "*")))
                                .withStatistics(merged),
                        folder.resolve("out")),
                "model.config was");
        assertThat(folder.resolve("out")).doesNotExist();
    }

    @Test
    void recipesWhoseStatisticsDependOnDecisionsAreRefused() {
        Path file = folder.resolve("file");
        for (String calibration : List.of("{samples: 4, length: 16}", "{samples: 4, length: 16, sequential: true}")) {
            String recipe = "steps: [{method: wanda, sparsity: 0.5}]\ncalibration: " + calibration;
            try (Plan plan = Sentei.plan(Runs.request(LLAMA, recipe))) {
                refused(() -> plan.saveStatistics(Shard.WHOLE, file, Progress.NONE), "sequential: false");
            }
        }
        try (Plan plan = Sentei.plan(Runs.request(
                LLAMA,
                "steps: [{method: sparsegpt, sparsity: 0.5}]\n"
                        + "calibration: {samples: 4, length: 16, sequential: false}"))) {
            refused(() -> plan.saveStatistics(Shard.WHOLE, file, Progress.NONE), "Gram", "--calibration");
        }
        try (Plan plan = Sentei.plan(Runs.request(LLAMA, SMALL))) {
            refused(() -> plan.saveStatistics(new Shard(4, 4), file, Progress.NONE), "3 shards at most");
        }
        refused(() -> new Shard(0, 2), "shard 0/2");
        refused(() -> new Shard(3, 2), "shard 3/2");
        assertThat(file).doesNotExist();
    }

    private static void refused(Runnable work, String... parts) {
        assertThatThrownBy(work::run)
                .isInstanceOfAny(FormatException.class, RecipeException.class)
                .satisfies(refusal -> assertThat(refusal.getMessage()).contains(parts));
    }
}

package org.sentei.fuzz;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;
import org.sentei.engine.CompressionRequest;
import org.sentei.engine.Plan;
import org.sentei.engine.Progress;
import org.sentei.engine.Sentei;
import org.sentei.engine.Shard;
import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.Recipes;
import org.sentei.format.Models;
import org.sentei.format.Safetensors;
import org.sentei.format.SafetensorsWriter;
import org.sentei.format.Sha256;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** A file of statistics, mostly with the right hash for its damage, so that what lies behind the hash is reached. */
final class StatisticsTarget implements FuzzTarget {
    private static final List<String> DICTIONARY = List.of(
            "\"first\"",
            "\"level\"",
            "{\"first\":0,\"level\":0}",
            "{\"first\":0,\"level\":24}",
            "{\"first\":16777216,\"level\":31}",
            "{\"first\":1073741824,\"level\":-1}",
            "\"cols\"",
            "16777216",
            "16777217",
            "2147483647",
            "\"model.weights\"",
            "[]",
            "{}",
            "null");
    private static final Recipe RECIPE = Recipes.parse("""
            steps: [{method: stade, sparsity: 0.5}]
            calibration: {samples: 8, length: 4, sequential: false}
            """);

    @Override
    public Case make(SplittableRandom random, Path folder) throws IOException {
        Path seed = folder.resolve("seed.safetensors");
        Path model = Models.folder("gpt2-variant");
        if (!Files.exists(seed)) {
            ModelUse.prepare(Files.createDirectories(folder));
            CompressionRequest request = CompressionRequest.of(model, RECIPE)
                    .withCalibration(folder.resolve("words.txt"))
                    .withTokenizer(folder.resolve("words.json"))
                    .on("reference", ModelUse.ONE_THREAD);
            try (Plan plan = Sentei.plan(request)) {
                plan.saveStatistics(Shard.WHOLE, seed, Progress.NONE);
            }
        }
        Path input = folder.resolve("statistics.safetensors");
        if (random.nextInt(8) == 0) {
            Files.write(input, ByteMutator.mutate(Files.readAllBytes(seed), random));
        } else {
            resealed(seed, input, random);
        }
        Path merged = folder.resolve("merged.safetensors");
        Path output = folder.resolve("out");
        return new Case(input, List.of(input.toString()), () -> {
            Files.deleteIfExists(merged);
            Sentei.mergeStatistics(List.of(input), merged);
            CompressionRequest request =
                    CompressionRequest.of(model, RECIPE).withStatistics(input).on("reference", ModelUse.ONE_THREAD);
            try (Plan plan = Sentei.plan(request)) {
                plan.run(output, Progress.NONE);
            } finally {
                ModelUse.delete(output);
            }
        });
    }

    private static void resealed(Path seed, Path input, SplittableRandom random) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            Safetensors sound = Safetensors.map(seed, arena);
            int target = random.nextInt(sound.names().size());
            List<Tensor> tensors = new ArrayList<>();
            Sha256 hash = new Sha256();
            for (String name : sound.names()) {
                if (name.equals("sha256")) {
                    continue;
                }
                Tensor tensor = damaged(sound.tensor(name), target == tensors.size() || target == 0, random)
                        .orElse(sound.tensor(name));
                tensors.add(tensor);
                hash.add(name.getBytes(StandardCharsets.UTF_8)).add(tensor.data());
            }
            byte[] digits = hash.hex().getBytes(StandardCharsets.US_ASCII);
            tensors.add(new Tensor("sha256", DType.U8, Shape.of(digits.length), MemorySegment.ofArray(digits)));
            SafetensorsWriter.write(input, tensors);
        }
    }

    private static Optional<Tensor> damaged(Tensor tensor, boolean chosen, SplittableRandom random) {
        byte[] bytes = tensor.data().toArray(ValueLayout.JAVA_BYTE);
        if (tensor.name().equals("about") && random.nextInt(4) > 0) {
            String json = new String(bytes, StandardCharsets.UTF_8);
            byte[] mutated = JsonMutator.mutate(JsonMutator.parse(json), random, DICTIONARY)
                    .getBytes(StandardCharsets.UTF_8);
            return Optional.of(new Tensor("about", DType.U8, Shape.of(mutated.length), MemorySegment.ofArray(mutated)));
        }
        if (!chosen) {
            return Optional.empty();
        }
        for (int i = 0; i < 8; i++) {
            bytes[random.nextInt(bytes.length)] = (byte) random.nextInt(256);
        }
        return Optional.of(new Tensor(tensor.name(), tensor.dtype(), tensor.shape(), MemorySegment.ofArray(bytes)));
    }
}

package org.sentei.fuzz;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.sentei.engine.CompressionRequest;
import org.sentei.engine.Plan;
import org.sentei.engine.Sentei;
import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.Recipes;
import org.sentei.format.Models;

/** A recipe in YAML or JSON, planned on a small model when it is accepted. */
final class RecipeTarget implements FuzzTarget {
    private static final String FULL = """
            seed: 7
            steps:
              - method: stade
                targets: ["*.self_attn.*"]
                ignore: ["*.k_proj"]
                sparsity: 0.5
                scope: row
                variant: policy
                threshold: 0.1
                bias: auto
              - method: wanda
                targets: ["*.mlp.*"]
                pattern: "2:4"
              - method: magnitude
                targets:
                  - "*.k_proj"
                sparsity: 0.25
                scope: layer
            calibration: {samples: 8, length: 16, sequential: true}
            storage: dense
            quality: {max_perplexity_increase: 0.1}
            """;
    private static final String JSON = """
            {"seed": 3, "steps": [{"method": "wanda", "targets": ["*"], "sparsity": 0.5, "scope": "row"},
              {"method": "magnitude", "targets": ["lm_head"], "sparsity": 0.125, "scope": "global"}],
             "calibration": {"samples": 4, "length": 8, "sequential": false},
             "quality": {"max_perplexity_increase": 2, "min_cosine": 0.5}}
            """;
    private static final List<String> DICTIONARY = List.of(
            "&a ",
            "*a",
            "&a [*a]",
            "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b]",
            "<<: *a",
            "? ",
            "!!python/object:os.system",
            "!!binary |",
            "!<tag:x> ",
            "---",
            "...",
            "%YAML 9.9",
            "%TAG ! !",
            "\t",
            "- ",
            "-",
            ": ",
            "|",
            ">",
            "|2-",
            "\"",
            "'",
            "\\u0000",
            "\"\\uD800\"",
            "{",
            "}",
            "[",
            "]",
            "[".repeat(40),
            "{a: ".repeat(40),
            "- ".repeat(600),
            "[".repeat(20000),
            "? ".repeat(3000),
            "# ",
            "~",
            "null",
            "yes",
            "0.5",
            "1e-99",
            "1e99999999999",
            "9".repeat(60),
            "0x7f",
            "0o17",
            "1_000",
            "12:30:45",
            ".inf",
            "-.nan",
            "-1",
            "0",
            "1000000",
            "2:4",
            "9999:9999",
            "sparsity: 0.999999999999",
            "seed: 9223372036854775807",
            "seed: 9223372036854775808",
            "targets: [\"" + "*".repeat(300) + "a\"]",
            "targets: [\"*?*?*?*?*?*?b\"]",
            "ignore: [\"*\"]",
            "method: sparsegpt",
            "storage: bitmask",
            "scope: global",
            "bias: paper",
            "pattern: \"1:2\"",
            "\u0000",
            "\ufeff",
            "\u2028",
            "\u0085",
            "a".repeat(5000));

    private final List<String> yaml = new ArrayList<>();
    private final JsonMutator.Node json = JsonMutator.parse(JSON);

    private void prepare(Path folder) throws IOException {
        yaml.add(FULL);
        for (String name : Recipes.builtIn()) {
            yaml.add(Recipes.load(name).text());
        }
        Files.createDirectories(folder.resolve("model"));
        for (String file : List.of("config.json", "model.safetensors")) {
            Files.copy(
                    Models.folder("llama-variant").resolve(file),
                    folder.resolve("model").resolve(file));
        }
    }

    @Override
    public Case make(SplittableRandom random, Path folder) throws IOException {
        if (yaml.isEmpty()) {
            prepare(folder);
        }
        boolean asJson = random.nextInt(3) == 0;
        Path input = folder.resolve(asJson ? "recipe.json" : "recipe.yaml");
        byte[] damaged;
        if (asJson) {
            damaged = JsonMutator.mutate(
                            json,
                            random,
                            List.of(
                                    "\"2:4\"",
                                    "\"stade\"",
                                    "\"sequential\"",
                                    "\"min_cosine\"",
                                    "\"targets\"",
                                    "\"pattern\"",
                                    "\"threshold\"",
                                    "\"variant\"",
                                    "\"policy\"",
                                    "\"bias\"",
                                    "\"paper\"",
                                    "[\"*\"]",
                                    "0.25"))
                    .getBytes(StandardCharsets.UTF_8);
        } else {
            String seed = yaml.get(random.nextInt(3) == 0 ? random.nextInt(yaml.size()) : 0);
            damaged = TextMutator.mutate(seed, random, DICTIONARY).getBytes(StandardCharsets.UTF_8);
        }
        if (random.nextInt(6) == 0) {
            damaged = ByteMutator.mutate(damaged, random);
        }
        Files.write(input, damaged);
        return new Case(input, List.of("recipe", "step ", "site ", "target", "sparsity", "calibration", "bias"), () -> {
            Recipe recipe = Recipes.load(input.toString());
            recipe.withSeed(random.nextInt(1000));
            try (Plan plan = Sentei.plan(
                    CompressionRequest.of(folder.resolve("model"), recipe).on("reference", ModelUse.ONE_THREAD))) {
                plan.sites();
                plan.memoryBytes();
            }
        });
    }
}

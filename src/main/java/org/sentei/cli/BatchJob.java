package org.sentei.cli;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import org.sentei.engine.CompressionRequest;
import org.sentei.engine.recipe.Nearest;
import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.format.FormatException;
import org.sentei.format.JsonFault;
import org.sentei.format.Sha256;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;

/**
 * One line of a file of jobs: a JSON object whose keys are options of {@code compress}.
 *
 * @param line counted from 1
 * @param id hash of the line
 * @param fields its strings by key; of a line with a fault those that could be read
 * @param seed null for the recipe's own
 * @param fault why this is no job, null when it is one
 */
record BatchJob(int line, String id, Map<String, String> fields, Long seed, String fault) {
    private static final List<String> REQUIRED = List.of("model", "recipe", "out");
    private static final List<String> KEYS =
            List.of("model", "recipe", "out", "calibration", "statistics", "data", "tokenizer", "seed");
    private static final ObjectMapper MAPPER = JsonMapper.builder(JsonFactory.builder()
                    .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
                    .build())
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .build();

    /**
     * The jobs of a file, one a line that is not blank.
     *
     * @throws FormatException when there is none
     */
    static List<BatchJob> read(Path file) {
        List<BatchJob> jobs = new ArrayList<>();
        Map<Path, Integer> outputs = new HashMap<>();
        int number = 0;
        for (String line : lines(file)) {
            number++;
            if (line.isBlank()) {
                continue;
            }
            BatchJob job = parse(number, line.strip());
            if (job.fault == null) {
                Integer other = outputs.putIfAbsent(job.out().toAbsolutePath().normalize(), number);
                if (other != null) {
                    job = job.faulty("out " + job.out() + " is that of line " + other + " too; give it its own");
                }
            }
            jobs.add(job);
        }
        if (jobs.isEmpty()) {
            throw new FormatException(
                    "jobs " + file + " has no job: write one a line, for example {\"model\": \"llama/\", \"recipe\":"
                            + " \"magnitude-50\", \"out\": \"llama-50/\"}");
        }
        return jobs;
    }

    private static List<String> lines(Path file) {
        return SmallFile.text("jobs", file).lines().toList();
    }

    private static BatchJob parse(int number, String line) {
        String id = new Sha256().add(line.getBytes(StandardCharsets.UTF_8)).hex();
        Map<String, String> fields = new TreeMap<>();
        BatchJob job = new BatchJob(number, id, fields, null, null);
        try {
            JsonNode object = MAPPER.readTree(line);
            if (!object.isObject()) {
                return job.faulty("it is no JSON object");
            }
            Long seed = null;
            for (Map.Entry<String, JsonNode> field : object.properties()) {
                String key = field.getKey();
                JsonNode value = field.getValue();
                if (!KEYS.contains(key)) {
                    return job.faulty("there is no key " + key + "; the nearest is " + Nearest.to(key, KEYS));
                }
                if (key.equals("seed")) {
                    if (!value.canConvertToLong() || !value.isIntegralNumber() || value.longValue() < 0) {
                        return job.faulty("seed is " + value + "; give an integer of 0 or more");
                    }
                    seed = value.longValue();
                } else if (value.isTextual() && !value.textValue().isEmpty()) {
                    fields.put(key, Path.of(value.textValue()).toString());
                } else {
                    return job.faulty(key + " is " + value + "; give a string");
                }
            }
            for (String key : REQUIRED) {
                if (!fields.containsKey(key)) {
                    return job.faulty("it has no " + key + "; give model, recipe and out");
                }
            }
            return new BatchJob(number, id, fields, seed, null);
        } catch (InvalidPathException e) {
            return job.faulty("a path cannot be one: " + e.getReason());
        } catch (IOException e) {
            return job.faulty("it is no JSON: " + JsonFault.of(e));
        }
    }

    private BatchJob faulty(String why) {
        return new BatchJob(line, id, fields, seed, "line " + line + ": " + why);
    }

    /** What the line says under a key; null where it does not. */
    String field(String key) {
        return fields.get(key);
    }

    /** The model as the line names it. */
    String model() {
        return field("model");
    }

    /** Where the result goes. */
    Path out() {
        return Path.of(field("out"));
    }

    /** The request that {@code compress} would make of it, on any device; recipe before model, as there. */
    CompressionRequest request() {
        Recipe loaded = RecipeArgument.load(field("recipe"));
        return new CompressionRequest(
                ModelArgument.locate(model()),
                seed == null ? loaded : loaded.withSeed(seed),
                optional("calibration"),
                optional("statistics"),
                optional("data"),
                optional("tokenizer"),
                Backends.AUTO,
                Backend.Options.defaults());
    }

    /** Hash of what the recipe says now; empty where it says nothing valid, which running the job will tell. */
    String recipeSha256() {
        try {
            Recipe said = RecipeArgument.load(field("recipe"));
            Recipe plain = new Recipe(
                    said.seed(),
                    said.steps(),
                    said.easier(),
                    said.quantize(),
                    said.calibration(),
                    said.images(),
                    said.storage(),
                    said.quality(),
                    "without remarks");
            return new Sha256()
                    .add(plain.toString().getBytes(StandardCharsets.UTF_8))
                    .hex();
        } catch (RecipeException | FormatException invalid) {
            return "";
        }
    }

    private Optional<Path> optional(String key) {
        return Optional.ofNullable(field(key)).map(Path::of);
    }
}

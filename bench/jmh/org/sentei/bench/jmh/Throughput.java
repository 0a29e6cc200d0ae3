package org.sentei.bench.jmh;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.sentei.engine.CompressionRequest;
import org.sentei.engine.Plan;
import org.sentei.engine.Progress;
import org.sentei.engine.Sentei;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.report.Report;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.platform.Settings;

/**
 * Whole compressions of one model by several methods, with the time from host memory to host memory apart from that of files:
 * what {@code bench/throughput} runs.
 */
public final class Throughput {
    /** By the words of the table; nothing is gated and nothing else is written. */
    private static final Map<String, String> METHODS = methods();

    private Throughput() {}

    private static Map<String, String> methods() {
        Map<String, String> methods = new LinkedHashMap<>();
        methods.put("magnitude", "{method: magnitude, sparsity: 0.5}");
        methods.put("2:4 by magnitude", "{method: magnitude, pattern: '2:4'}");
        methods.put("wanda", "{method: wanda, sparsity: 0.5}");
        methods.put("stade", "{method: stade, sparsity: 0.5}");
        return methods;
    }

    /**
     * Takes the model, a text, windows and tokens of each, a backend, and a folder for the outputs, which are removed, and for the
     * traces of a backend that makes some, which are not.
     *
     * @throws IOException when an output cannot be removed
     */
    public static void main(String[] arguments) throws IOException {
        Path model = Path.of(arguments[0]);
        Path text = Path.of(arguments[1]);
        long samples = Long.parseLong(arguments[2]);
        long length = Long.parseLong(arguments[3]);
        String backend = Backends.find(arguments[4]).name();
        Path folder = Path.of(arguments[5]);
        List<Map<String, Object>> results = new ArrayList<>();
        for (Map.Entry<String, String> method : METHODS.entrySet()) {
            String recipe = "steps: [" + method.getValue() + "]\ncalibration: {samples: " + samples + ", length: "
                    + length + "}";
            CompressionRequest request =
                    CompressionRequest.of(model, Recipes.parse(recipe)).on(backend, Backend.Options.defaults());
            boolean calibrated = !method.getValue().contains("magnitude");
            Path trace = folder.resolve("trace-" + method.getKey().replaceAll("[^a-z0-9]+", "-") + ".json");
            System.setProperty(Settings.CUDA_TRACE, trace.toString());
            Map<String, Object> result = measure(
                    method.getKey(),
                    calibrated ? request.withCalibration(text) : request,
                    calibrated ? samples * length : 0,
                    folder.resolve("out"));
            if (Files.exists(trace)) {
                result.putAll(overlap(trace));
            }
            results.add(result);
        }
        Map<String, Object> document = new LinkedHashMap<>();
        document.put("model", model.getFileName().toString());
        document.put("backend", backend);
        document.put("throughput", results);
        System.out.println(JsonMapper.builder().build().writeValueAsString(document));
    }

    /** What the device's own clock says of copies and kernels. */
    private static Map<String, Object> overlap(Path trace) throws IOException {
        JsonNode totals = JsonMapper.builder().build().readTree(trace.toFile()).get("otherData");
        double copies = totals.get("copy_us").asDouble();
        Map<String, Object> overlap = new LinkedHashMap<>();
        overlap.put("copy_seconds", copies / 1e6);
        overlap.put("copy_hidden_share", totals.get("copy_under_kernels_us").asDouble() / copies);
        overlap.put("trace", trace.getFileName().toString());
        return overlap;
    }

    private static Map<String, Object> measure(String method, CompressionRequest request, long tokens, Path output)
            throws IOException {
        long start = System.nanoTime();
        Walked walked = new Walked();
        Report report;
        try (Plan plan = Sentei.plan(request)) {
            report = plan.run(output, walked);
        }
        double seconds = (System.nanoTime() - start) / 1e9;
        try (Stream<Path> files = Files.walk(output)) {
            for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                Files.delete(file);
            }
        }
        Map<String, Object> result = new LinkedHashMap<>();
        result.put("method", method);
        result.put("calibration_tokens", tokens);
        result.put("weights", report.totals().parameters());
        result.put("seconds", seconds);
        result.put("host_to_host_seconds", walked.seconds());
        result.put("file_seconds", seconds - walked.seconds());
        return result;
    }

    /** From the first group of layers to the last: weights come from mapped files, masks go to the heap. */
    private static final class Walked implements Progress {
        private long first;
        private long last;

        @Override
        public void advanced(String stage, long done, long total) {
            last = System.nanoTime();
            first = first == 0 ? last : first;
        }

        double seconds() {
            return (last - first) / 1e9;
        }
    }
}

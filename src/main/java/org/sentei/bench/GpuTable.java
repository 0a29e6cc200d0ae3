package org.sentei.bench;

import com.fasterxml.jackson.core.JacksonException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.StringJoiner;
import org.sentei.format.FormatException;
import org.sentei.kernel.Ceilings;
import org.sentei.kernel.OpCase;
import org.sentei.kernel.OpCases;

/**
 * The Markdown table of a run of {@code bench/gpu.sh}, from what that script has appended so far: a line of JSON a part, with
 * {@code part}, {@code backend}, {@code op}, {@code exit_code}, and either {@code result}, which is the document of the command
 * that ran, or {@code reason}. What did not run is a row with its reason.
 */
public final class GpuTable {
    private static final ObjectMapper MAPPER = JsonMapper.builder().build();
    private static final long LARGEST = 64 << 20;
    private static final List<String> BACKENDS = List.of("cuda", "opencl");

    private final List<JsonNode> parts;

    private GpuTable(List<JsonNode> parts) {
        this.parts = parts;
    }

    /**
     * Reads and formats.
     *
     * @throws FormatException when the file cannot be read or a line is no JSON object
     */
    public static String of(Path file) {
        List<JsonNode> parts = new ArrayList<>();
        try {
            if (Files.size(file) > LARGEST) {
                throw new FormatException(file + " is too large for the parts of bench/gpu.sh");
            }
            for (String line : Files.readAllLines(file)) {
                JsonNode part = MAPPER.readTree(line);
                if (!part.isObject()) {
                    throw new FormatException(file + " holds a line that is no JSON object: name a gpu.jsonl");
                }
                parts.add(part);
            }
        } catch (JacksonException e) {
            throw new FormatException(file + " is no gpu.jsonl: " + e.getOriginalMessage(), e);
        } catch (IOException e) {
            throw new FormatException(file + " cannot be read (" + e + "): name the gpu.jsonl of bench/gpu.sh", e);
        }
        return new GpuTable(parts).format();
    }

    private String format() {
        StringJoiner lines = new StringJoiner("\n", "", "\n");
        lines.add("# Kernels on GPUs").add("");
        lines.add("| part | backend | outcome |").add("|---|---|---|");
        for (JsonNode part : parts) {
            if (part.path("part").asText().equals("doctor")) {
                String backend = part.path("backend").asText();
                lines.add(row("conformance", backend, conformance(part, backend)));
            } else if (part.path("op").isMissingNode()) {
                lines.add(row(part.path("part").asText(), part.path("backend").asText("-"), outcome(part)));
            }
        }
        lines.add("");
        lines.add("| ceiling | measured | |").add("|---|---:|---|");
        for (String part : List.of("ceilings", "launch")) {
            JsonNode measured = result(part).path("ceilings");
            if (measured.isEmpty()) {
                lines.add(row(part.equals("launch") ? part : "all", "-", reason(part, null, null)));
            }
            measured.forEach(one -> lines.add(row(
                    one.path("name").asText(),
                    one.path("value").isNumber()
                            ? figure(one.path("value").asDouble()) + " "
                                    + one.path("unit").asText()
                            : "-",
                    one.path("how").asText(one.path("reason").asText()))));
        }
        lines.add("");
        lines.add("| kernel | shape | backend | ms | GB/s | TFLOP/s | of ceiling | peers: ms, ratio | error |");
        lines.add("|---|---|---|---:|---:|---:|---:|---|---|");
        for (OpCase opCase : OpCases.benchmarks()) {
            for (String backend : BACKENDS) {
                lines.add(kernel(opCase, backend));
            }
        }
        lines.add("");
        lines.add(
                "The error is the largest of the op's conformance cases against the reference, which computes in fp64, in units"
                        + " of what the tolerance allows. A ratio above 1 says how many times as long the peer takes. One run is one"
                        + " op, given to the backend and waited for; the peers are given many and waited for once.");
        return lines.toString();
    }

    private String conformance(JsonNode doctor, String backend) {
        for (JsonNode health : doctor.path("result").path("backends")) {
            if (health.path("name").asText().equals(backend)) {
                if (!health.path("available").asBoolean()) {
                    return health.path("reason").asText();
                }
                int wrong = health.path("failures").size();
                String where = health.path("device").asText() + ", "
                        + health.path("driver").asText();
                return where + ": " + health.path("cases").asInt() + " cases, "
                        + (wrong == 0
                                ? "all right"
                                : wrong + " WRONG, the first: "
                                        + health.path("failures").path(0).asText());
            }
        }
        return outcome(doctor);
    }

    private static String outcome(JsonNode part) {
        JsonNode error = part.path("result").path("error");
        if (error.isTextual() || part.path("reason").isTextual()) {
            return error.asText(part.path("reason").asText());
        }
        int code = part.path("exit_code").asInt();
        return code == 0 ? "done" : "exit code " + code;
    }

    private JsonNode result(String part) {
        for (JsonNode one : parts) {
            if (one.path("part").asText().equals(part)) {
                return one.path("result");
            }
        }
        return MAPPER.missingNode();
    }

    /** Why a part, or an op in it, brought nothing. */
    private String reason(String name, String backend, String op) {
        for (JsonNode part : parts) {
            if (part.path("part").asText().equals(name)
                    && (backend == null || part.path("backend").asText().equals(backend))
                    && (op == null || part.path("op").asText(op).equals(op))) {
                return outcome(part);
            }
        }
        return "not measured: the run did not come so far";
    }

    private String kernel(OpCase opCase, String backend) {
        for (JsonNode part : parts) {
            for (JsonNode result : part.path("result").path("results")) {
                if (result.path("backend").asText().equals(backend)
                        && opCase.name()
                                .equals(result.path("op").asText() + "/"
                                        + result.path("case").asText())) {
                    return kernel(opCase, backend, result);
                }
            }
        }
        String op = opCase.name().substring(0, opCase.name().indexOf('/'));
        return row(op, opCase.label(), backend, "-", "-", "-", "-", "-", reason("bench", backend, op));
    }

    private String kernel(OpCase opCase, String backend, JsonNode result) {
        double time = result.path("time").asDouble();
        return row(
                result.path("op").asText(),
                opCase.label(),
                backend,
                figure(1e3 * time),
                figure(result.path("bandwidth").asDouble() / 1e9),
                figure(result.path("operation_rate").asDouble() / 1e12),
                ceiling(result, time),
                peers(opCase.name(), time),
                error(result.path("op").asText(), backend));
    }

    /** By the backend's own ceilings where it has measured them, otherwise by those of the peer on the same device. */
    private String ceiling(JsonNode result, double time) {
        if (result.path("ceiling_percent").isNumber()) {
            return String.format(
                    Locale.ROOT,
                    "%.0f %% of %s",
                    result.path("ceiling_percent").asDouble(),
                    result.path("limit").asText());
        }
        Map<String, Double> measured = new LinkedHashMap<>();
        for (JsonNode one : result("ceilings").path("ceilings")) {
            if (one.path("value").asDouble() > 0) {
                measured.put(one.path("name").asText(), one.path("value").asDouble());
            }
        }
        if (!(measured.containsKey("read") && measured.containsKey("copy") && measured.containsKey("fp32"))) {
            return "not measured";
        }
        Ceilings ceilings =
                new Ceilings(1e9 * measured.get("read"), 1e9 * measured.get("copy"), 1e12 * measured.get("fp32"));
        long read = result.path("bytes_read").asLong();
        long written = result.path("bytes_written").asLong();
        long operations = result.path("operations").asLong();
        return String.format(
                Locale.ROOT,
                "%.0f %% of %s",
                100 * ceilings.seconds(read, written, operations) / time,
                ceilings.limit(read, written, operations));
    }

    private String peers(String name, double time) {
        StringJoiner peers = new StringJoiner("; ");
        JsonNode result = result("peers");
        result.path("times")
                .path(name)
                .properties()
                .forEach(peer -> peers.add(String.format(
                        Locale.ROOT,
                        "%s %s, **%.2f**",
                        peer.getKey(),
                        figure(1e3 * peer.getValue().asDouble()),
                        peer.getValue().asDouble() / time)));
        result.path("failed")
                .path(name)
                .properties()
                .forEach(peer ->
                        peers.add(peer.getKey() + " failed: " + peer.getValue().asText()));
        if (peers.length() > 0) {
            return peers.toString();
        }
        return result.path("times").isEmpty() ? reason("peers", null, null) : "none";
    }

    private String error(String op, String backend) {
        for (JsonNode part : parts) {
            for (JsonNode health : part.path("result").path("backends")) {
                for (JsonNode one : health.path("ops")) {
                    if (health.path("name").asText().equals(backend)
                            && one.path("op").asText().equals(op)) {
                        return one.path("worst_error").isNumber()
                                ? figure(one.path("worst_error").asDouble())
                                : "WRONG";
                    }
                }
            }
        }
        return "not measured";
    }

    private static String figure(double value) {
        return String.format(Locale.ROOT, value >= 100 ? "%.0f" : value >= 1 ? "%.2f" : "%.4f", value);
    }

    private static String row(String... cells) {
        StringJoiner row = new StringJoiner(" | ", "| ", " |");
        for (String cell : cells) {
            row.add(cell.replace("|", "\\|").replaceAll("\\s+", " "));
        }
        return row.toString();
    }
}

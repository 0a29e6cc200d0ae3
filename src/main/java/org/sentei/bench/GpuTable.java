package org.sentei.bench;

import com.fasterxml.jackson.core.JacksonException;
import com.fasterxml.jackson.core.json.JsonReadFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.StringJoiner;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.sentei.format.FormatException;
import org.sentei.kernel.Ceilings;
import org.sentei.kernel.Op;
import org.sentei.kernel.OpCase;
import org.sentei.kernel.OpCases;
import org.sentei.kernel.ScoreSelect;
import org.sentei.kernel.View;

/**
 * The Markdown table of a run of {@code bench/gpu.sh}, from what that script has appended so far: a line of JSON a part, with
 * {@code part}, {@code backend}, {@code op}, {@code exit_code}, and either {@code result}, which is the document of the command
 * that ran, or {@code reason}. What did not run is a row with its reason.
 */
public final class GpuTable {
    /** Python writes what is no number as NaN. */
    private static final ObjectMapper MAPPER = JsonMapper.builder()
            .enable(JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS)
            .build();

    private static final long LARGEST = 64 << 20;
    private static final String CUDA = "cuda";
    private static final List<String> BACKENDS = List.of(CUDA, "opencl");

    private final List<JsonNode> parts;
    private final List<OpCase> benchmarks = OpCases.benchmarks();
    private final List<OpCase> modelShapes = OpCases.modelShapes();
    private final Map<String, OpCase> cases = Stream.of(benchmarks, modelShapes)
            .flatMap(List::stream)
            .collect(Collectors.toMap(OpCase::name, Function.identity()));

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
                    positive(one.path("value")) > 0
                            ? figure(one.path("value").asDouble()) + " "
                                    + one.path("unit").asText()
                            : "-",
                    one.path("how").asText(one.path("reason").asText()))));
        }
        lines.add("");
        musts(lines);
        lines.add("");
        throughput(lines);
        lines.add("");
        lines.add("| kernel | shape | backend | ms | GB/s | TFLOP/s | of ceiling | peers: ms, ratio | error |");
        lines.add("|---|---|---|---:|---:|---:|---:|---|---|");
        for (OpCase opCase : benchmarks) {
            for (String backend : BACKENDS) {
                lines.add(kernel(opCase, backend));
            }
        }
        for (OpCase opCase : modelShapes) {
            lines.add(kernel(opCase, CUDA));
        }
        for (OpCase opCase : modelShapes) {
            OpCase mask = maskOf(opCase);
            if (mask != null) {
                lines.add(writeBack(opCase, mask));
            }
        }
        lines.add("");
        lines.add(
                "The error is the case's largest difference from the reference, which computes in fp64, in units of what the"
                        + " tolerance allows; of large cases 64 rows or columns, of an attention one head are compared. A ratio"
                        + " above 1 says how many times as long the peer takes. write_back is score_select followed by"
                        + " apply_mask with a bias: the sum of their times, and the bytes of a kernel that would do both at"
                        + " once. Compute is fp32 outside of tensor cores: attention, gram and gemm, which may use these, can"
                        + " exceed it. Both sides are given a millisecond of work or more before they are waited for.");
        return lines.toString();
    }

    /** What the kernels have to reach, at the shapes of Llama 2 7B. */
    private void musts(StringJoiner lines) {
        lines.add("| must | shape | wanted | measured | |").add("|---|---|---:|---:|---|");
        for (String shape : List.of("262144x4096", "32768x4096", "32768x11008")) {
            String name = "column_moments/" + shape;
            lines.add(share("of the read ceiling", name, bandwidth(name), "read", 85));
            lines.add(ratio(name, "torch.var_mean", 1.2));
        }
        for (String shape : List.of("4096x4096", "11008x4096", "4096x11008")) {
            String rows = "score_select/50 % of " + shape;
            lines.add(share("of the copy ceiling", rows, bandwidth(rows), "copy", 45));
            lines.add(ratio(rows, "torch.sort", 10));
            lines.add(ratio(rows, "torch.kthvalue", 4));
            OpCase select = cases.get(rows);
            String written = "write_back/50 % of " + shape;
            lines.add(share("of the copy ceiling", written, writeBackBandwidth(select, maskOf(select)), "copy", 65));
            String groups = "score_select/2:4 of " + shape + " lognormal";
            lines.add(share("of the copy ceiling", groups, bandwidth(groups), "copy", 80));
            lines.add(ratio(groups, "torch loop of topk", 100));
        }
        double launch = Double.NaN;
        for (JsonNode one : result("launch").path("ceilings")) {
            if (one.path("name").asText().equals("launch by FFM, refused by the driver")) {
                launch = positive(one.path("value"));
            }
        }
        lines.add(row(
                "binding cost of a launch by FFM",
                "with the driver's refusal",
                "<= 100 ns",
                Double.isNaN(launch) ? "-" : figure(launch) + " ns",
                Double.isNaN(launch)
                        ? reason("launch", null, null)
                        : launch <= 100 ? "met" : "not shown: the driver's own work is part of it"));
    }

    private String share(String must, String name, double bandwidth, String ceiling, double wanted) {
        double share = 100 * bandwidth / ceiling(ceiling);
        String why = Double.isNaN(bandwidth) ? unmeasured(name) : "no ceiling was measured";
        return verdict(must, name, share, " %", wanted, why);
    }

    private String ratio(String name, String peer, double wanted) {
        double theirs = Double.NaN;
        for (JsonNode part : parts) {
            JsonNode time = part.path("result").path("times").path(name).path(peer);
            theirs = time.isMissingNode() ? theirs : positive(time);
        }
        double ours = time(name, CUDA);
        String why =
                Double.isNaN(ours) ? unmeasured(name) : "the peer has no time (" + reason("peers", null, null) + ")";
        return verdict("times as fast as " + peer, name, theirs / ours, "", wanted, why);
    }

    private static String verdict(
            String must, String name, double measured, String unit, double wanted, String whyNot) {
        boolean known = Double.isFinite(measured);
        return row(
                must,
                name,
                ">= " + figure(wanted) + unit,
                known ? figure(measured) + unit : "-",
                !known ? whyNot : measured >= wanted ? "met" : "MISSED");
    }

    private String unmeasured(String name) {
        String op = name.substring(0, name.indexOf('/'));
        return op.equals("write_back")
                ? unmeasured(name.replace("write_back", "score_select"))
                : reason("bench", CUDA, cases.get(name));
    }

    /** The case that applies what a selection at the same shape has chosen, or null where none does. */
    private OpCase maskOf(OpCase select) {
        if (!(OpCases.unbacked(select) instanceof ScoreSelect op)) {
            return null;
        }
        String name = "apply_mask/" + op.weights().rows() + "x" + op.weights().cols() + " bias";
        return cases.get(name);
    }

    private String writeBack(OpCase select, OpCase mask) {
        String name = "write_back/" + select.label();
        double time = time(select.name(), CUDA) + time(mask.name(), CUDA);
        if (!(time > 0)) {
            OpCase missing = Double.isNaN(time(select.name(), CUDA)) ? select : mask;
            return row("write_back", select.label(), CUDA, "-", "-", "-", "-", "-", reason("bench", CUDA, missing));
        }
        double bandwidth = writeBackBandwidth(select, mask);
        double copy = ceiling("copy");
        return row(
                "write_back",
                select.label(),
                CUDA,
                figure(1e3 * time),
                figure(bandwidth / 1e9),
                "-",
                Double.isNaN(copy) ? "not measured" : figure(100 * bandwidth / copy) + " % of copy",
                peers(name, time),
                "-");
    }

    /** Bytes a second of a kernel that reads and writes the weights once, and the mask, in the time of both. */
    private double writeBackBandwidth(OpCase select, OpCase mask) {
        ScoreSelect op = (ScoreSelect) OpCases.unbacked(select);
        return (2 * op.weights().bytes() + op.mask().bytes()) / (time(select.name(), CUDA) + time(mask.name(), CUDA));
    }

    /** Seconds of a case, NaN where there are none. */
    private double time(String name, String backend) {
        return positive(timed(name, backend).path("time"));
    }

    /** Bytes a second of a case on cuda, NaN where it was not timed. */
    private double bandwidth(String name) {
        Op op = OpCases.unbacked(cases.get(name));
        return op.bytes() / time(name, CUDA);
    }

    /** The higher of the peer's and of the backend's own, in bytes a second; NaN without either. */
    private double ceiling(String name) {
        double best = Double.NaN;
        for (JsonNode one : result("ceilings").path("ceilings")) {
            if (one.path("name").asText().equals(name)) {
                best = 1e9 * positive(one.path("value"));
            }
        }
        for (JsonNode part : parts) {
            for (JsonNode device : part.path("result").path("backends")) {
                double own = device.path("name").asText().equals(CUDA)
                        ? positive(device.path(name + "_bandwidth"))
                        : Double.NaN;
                best = Double.isNaN(own) || best >= own ? best : own;
            }
        }
        return best;
    }

    /** The number if it is one above 0, otherwise NaN. */
    private static double positive(JsonNode value) {
        double number = value.isNumber() ? value.asDouble() : Double.NaN;
        return number > 0 && Double.isFinite(number) ? number : Double.NaN;
    }

    /** Whole compressions. */
    private void throughput(StringJoiner lines) {
        lines.add(
                "| synthetic model | method | calibration tokens | s | of that host to host | files | copies | of that under"
                        + " kernels |");
        lines.add("|---|---|---:|---:|---:|---:|---:|---:|");
        JsonNode compressed = result("throughput");
        if (compressed.path("throughput").isEmpty()) {
            lines.add(row("-", "-", reason("throughput", null, null), "-", "-", "-", "-", "-"));
        }
        compressed
                .path("throughput")
                .forEach(one -> lines.add(row(
                        compressed.path("model").asText(),
                        one.path("method").asText(),
                        one.path("calibration_tokens").asText(),
                        figure(one.path("seconds").asDouble()),
                        figure(one.path("host_to_host_seconds").asDouble()),
                        figure(one.path("file_seconds").asDouble()),
                        one.has("copy_seconds")
                                ? figure(one.path("copy_seconds").asDouble())
                                : "-",
                        one.has("copy_hidden_share")
                                ? figure(100 * one.path("copy_hidden_share").asDouble()) + " %"
                                : "-")));
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

    /** Why a part brought nothing; of parts that run cases, that one that was to run this, or all. */
    private String reason(String name, String backend, OpCase opCase) {
        for (JsonNode part : parts) {
            if (part.path("part").asText().equals(name)
                    && (backend == null || part.path("backend").asText().equals(backend))
                    && (opCase == null || runs(part, opCase))) {
                for (JsonNode failure : part.path("result").path("failures")) {
                    if (opCase != null && isOf(failure, opCase.name(), backend)) {
                        return failure.path("reason").asText();
                    }
                }
                return outcome(part);
            }
        }
        return "not measured: the run did not come so far";
    }

    private static boolean runs(JsonNode part, OpCase opCase) {
        JsonNode cases = part.path("cases");
        if (cases.isMissingNode()) {
            return part.path("op").asText(Op.stem(opCase.op())).equals(Op.stem(opCase.op()));
        }
        for (JsonNode one : cases) {
            if (one.asText().equals(opCase.name())) {
                return true;
            }
        }
        return false;
    }

    /** Whether a result or a failure is of this case. */
    private static boolean isOf(JsonNode result, String name, String backend) {
        return result.path("backend").asText().equals(backend)
                && name.equals(
                        result.path("op").asText() + "/" + result.path("case").asText());
    }

    private JsonNode timed(String name, String backend) {
        for (JsonNode part : parts) {
            for (JsonNode result : part.path("result").path("results")) {
                if (isOf(result, name, backend)) {
                    return result;
                }
            }
        }
        return MAPPER.missingNode();
    }

    private String kernel(OpCase opCase, String backend) {
        JsonNode result = timed(opCase.name(), backend);
        double time = positive(result.path("time"));
        String op = Op.stem(opCase.op());
        if (Double.isNaN(time)) {
            String why = result.isMissingNode()
                    ? reason("bench", backend, opCase)
                    : "its time is no time: " + result.path("time").asText();
            return row(op, opCase.label(), backend, "-", "-", "-", "-", "-", why);
        }
        Op unbacked = OpCases.unbacked(opCase);
        return row(
                op,
                opCase.label(),
                backend,
                figure(1e3 * time),
                figure(unbacked.bytes() / time / 1e9),
                figure(unbacked.operations() / time / 1e12),
                ceiling(result, unbacked, time),
                peers(opCase.name(), time),
                error(result));
    }

    /** By the backend's own ceilings where it has measured them, otherwise by those of the peer on the same device. */
    private String ceiling(JsonNode result, Op op, double time) {
        double percent = positive(result.path("ceiling_percent"));
        String limit = result.path("limit").asText();
        if (Double.isNaN(percent)) {
            Map<String, Double> measured = new HashMap<>();
            for (JsonNode one : result("ceilings").path("ceilings")) {
                double value = positive(one.path("value"));
                if (value > 0) {
                    measured.put(one.path("name").asText(), value);
                }
            }
            if (!(measured.containsKey("read") && measured.containsKey("copy") && measured.containsKey("fp32"))) {
                return "not measured";
            }
            Ceilings ceilings =
                    new Ceilings(1e9 * measured.get("read"), 1e9 * measured.get("copy"), 1e12 * measured.get("fp32"));
            long written = op.writes().stream().mapToLong(View::bytes).sum();
            long read = op.bytes() - written;
            percent = 100 * ceilings.seconds(read, written, op.operations()) / time;
            limit = ceilings.limit(read, written, op.operations());
        }
        return String.format(Locale.ROOT, "%.0f %% of %s", percent, limit);
    }

    private String peers(String name, double time) {
        StringJoiner peers = new StringJoiner("; ");
        boolean ran = false;
        for (JsonNode part : parts) {
            if (!part.path("part").asText().equals("peers")) {
                continue;
            }
            JsonNode result = part.path("result");
            ran |= !result.path("times").isEmpty();
            result.path("times").path(name).properties().forEach(peer -> {
                double theirs = positive(peer.getValue());
                peers.add(
                        Double.isNaN(theirs)
                                ? peer.getKey() + " failed: its time is no time"
                                : String.format(
                                        Locale.ROOT,
                                        "%s %s, **%.2f**",
                                        peer.getKey(),
                                        figure(1e3 * theirs),
                                        theirs / time));
            });
            result.path("failed")
                    .path(name)
                    .properties()
                    .forEach(peer -> peers.add(
                            peer.getKey() + " failed: " + peer.getValue().asText()));
        }
        return peers.length() > 0 ? peers.toString() : ran ? "none" : reason("peers", null, null);
    }

    private static String error(JsonNode result) {
        JsonNode worst = result.path("worst_error");
        return worst.isNumber() && worst.asDouble() >= 0 && worst.asDouble() <= 1
                ? figure(worst.asDouble())
                : worst.isMissingNode() ? "not measured" : "WRONG";
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

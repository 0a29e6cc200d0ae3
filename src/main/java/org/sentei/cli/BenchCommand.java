package org.sentei.cli;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.function.BooleanSupplier;
import org.sentei.bench.Bench;
import org.sentei.bench.BenchFiles;
import org.sentei.bench.BenchReport;
import org.sentei.bench.Comparison;
import org.sentei.bench.GpuTable;
import org.sentei.bench.Harness;
import org.sentei.engine.recipe.Nearest;
import org.sentei.engine.recipe.Targets;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.Op;
import org.sentei.kernel.OpCase;
import org.sentei.kernel.OpCases;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code sentei bench}: how fast the kernels are, against what the machine can do. */
@Command(
        name = "bench",
        description = "Times ops by JMH on operands that caches do not hold, after their results were held against the"
                + " reference, and says how much of the machine's measured ceilings they reach.",
        footer = {
            "",
            "Example: one op, twice as many iterations, results kept",
            "  sentei bench --op column_moments --iterations 20 --out before",
            "Example: a kernel of your own beside ours",
            "  sentei bench --kernel rms_norm_mine.cl --op rms_norm",
            "Example: what a change brought",
            "  sentei bench --compare before after"
        })
final class BenchCommand implements Callable<Integer> {
    private final Terminal terminal;
    private final BooleanSupplier cancelled;

    @Spec
    private CommandSpec spec;

    @Mixin
    private CommonOptions common;

    @Option(names = "--op", paramLabel = "NAME", description = "Only this op; may be repeated. Default: all.")
    private List<String> ops = List.of();

    @Option(
            names = "--case",
            paramLabel = "PATTERN",
            description = "Only cases whose label (or op/label) matches; * stands for any characters, ? for one; may be"
                    + " repeated. Default: all.")
    private List<String> patterns = List.of();

    @Option(
            names = "--model-shapes",
            description = "Time the shapes of Llama 2 and 3, OPT and BERT as well: for GPUs, they take gigabytes.")
    private boolean modelShapes;

    @Option(
            names = "--list",
            description = "Time nothing: print the names of the cases that --op, --case and --model-shapes choose.")
    private boolean list;

    @Option(
            names = "--limit",
            paramLabel = "SECONDS",
            description = "Begin no case when so many seconds have passed. Default: none.")
    private double limit = Double.POSITIVE_INFINITY;

    @Option(
            names = "--backend",
            paramLabel = "NAME",
            description = "auto, reference, cpu, cuda or opencl; may be repeated. Default: all that are available down"
                    + " to cpu; slower ones are there to be right.")
    private List<String> backends = List.of();

    @Option(
            names = "--device",
            paramLabel = "N",
            defaultValue = "0",
            description = "Index of the device. Default: ${DEFAULT-VALUE}.")
    private int device;

    @Option(
            names = "--forks",
            paramLabel = "N",
            defaultValue = "1",
            description = "Fresh JVMs a case; 0 times in this one. Default: ${DEFAULT-VALUE}.")
    private int forks;

    @Option(
            names = "--warmup",
            paramLabel = "N",
            defaultValue = "3",
            description = "Iterations a fork that do not count. Default: ${DEFAULT-VALUE}.")
    private int warmup;

    @Option(
            names = "--iterations",
            paramLabel = "N",
            defaultValue = "10",
            description = "Iterations a fork that count. Default: ${DEFAULT-VALUE}.")
    private int iterations;

    @Option(
            names = "--time",
            paramLabel = "SECONDS",
            defaultValue = "0.2",
            description = "Least time of an iteration. Default: ${DEFAULT-VALUE}.")
    private double seconds;

    @Option(
            names = "--prof",
            paramLabel = "NAME[:OPTIONS]",
            description = "A JMH profiler, for example gc or perfnorm; may be repeated.")
    private List<String> profilers = List.of();

    @Option(
            names = "--kernel",
            paramLabel = "FILE",
            description =
                    "A kernel of your own, OpenCL (.cl) or CUDA (.cu, which wants NVRTC): checked on all cases of its op"
                            + " (--op, or how the file's name begins), then timed beside ours. kernels/README.md has the entries."
                            + " Exit code 4 with the first case that it gets wrong.")
    private Path kernel;

    @Option(
            names = "--out",
            paramLabel = "DIR",
            description = "Write bench.json, bench.csv and roofline.svg into this folder.")
    private Path out;

    @Option(
            names = "--compare",
            paramLabel = "RESULT",
            arity = "2",
            description = "Time nothing: compare two bench.json, or folders of --out; above 1 the second is faster.")
    private List<Path> compare = List.of();

    @Option(
            names = "--gpu-table",
            paramLabel = "FILE",
            hidden = true,
            description = "Time nothing: print the table of what bench/gpu.sh has appended to this file.")
    private Path gpuTable;

    BenchCommand(Terminal terminal, BooleanSupplier cancelled) {
        this.terminal = terminal;
        this.cancelled = cancelled;
    }

    @Override
    public Integer call() {
        if (gpuTable != null) {
            terminal.out().print(GpuTable.of(gpuTable));
            return ExitCode.OK;
        }
        if (!compare.isEmpty()) {
            if (!(ops.isEmpty() && patterns.isEmpty() && backends.isEmpty() && profilers.isEmpty())
                    || out != null
                    || kernel != null) {
                throw wrong("--compare times nothing and writes nothing: give it two results and at most --json");
            }
            compare();
            return ExitCode.OK;
        }
        if (list) {
            cases().forEach(one -> terminal.out().println(one.name()));
            return ExitCode.OK;
        }
        Harness.Schedule schedule = schedule();
        Backend.Options options = options();
        if (kernel != null) {
            ops = List.of(opOfKernel());
        }
        List<OpCase> cases = cases();
        List<String> names = kernel == null ? backends() : List.of(backendOfKernel());
        if (out != null) {
            BenchFiles.open(out);
        }
        BenchReport report;
        try (ProgressBar progress = new ProgressBar(terminal, cancelled)) {
            report = kernel == null
                    ? Bench.run(names, options, cases, schedule, limit, progress)
                    : Bench.run(kernel, names.getFirst(), options, cases, schedule, limit, progress);
        }
        if (out != null) {
            BenchFiles.write(out, report);
        }
        if (common.json) {
            Json.print(terminal, report);
        } else {
            print(report);
        }
        report.failures()
                .forEach(failure -> terminal.err()
                        .println("not timed: " + failure.op() + "/" + failure.label() + " on " + failure.backend()
                                + ": " + failure.reason()));
        return report.failures().isEmpty() ? ExitCode.OK : ExitCode.RUN_FAILED;
    }

    private Harness.Schedule schedule() {
        atLeast("--forks", forks, 0);
        atLeast("--warmup", warmup, 0);
        atLeast("--iterations", iterations, 1);
        if (!(seconds >= 1e-3 && seconds <= 3600)) {
            throw wrong("--time " + seconds + ": give seconds from 0.001 to 3600");
        }
        if (!(limit > 0)) {
            throw wrong("--limit " + limit + ": give seconds above 0");
        }
        return new Harness.Schedule(forks, warmup, iterations, seconds, profilers);
    }

    private Backend.Options options() {
        atLeast("--device", device, 0);
        int threads = common.threads == null ? Runtime.getRuntime().availableProcessors() : common.threads;
        atLeast("--threads", threads, 1);
        return new Backend.Options(device, threads);
    }

    private void atLeast(String option, int value, int least) {
        if (value < least) {
            throw wrong(option + " " + value + ": give " + least + " or more");
        }
    }

    private ParameterException wrong(String message) {
        return new ParameterException(spec.commandLine(), message);
    }

    private List<String> backends() {
        if (backends.isEmpty()) {
            List<String> fast = Bench.fastBackends();
            return fast.isEmpty() ? List.of(Backends.find(Backends.AUTO).name()) : fast;
        }
        return List.copyOf(new LinkedHashSet<>(
                backends.stream().map(name -> Backends.find(name).name()).toList()));
    }

    /** The one that is named, or the longest that the file's name begins with. */
    private String opOfKernel() {
        if (ops.size() > 1) {
            throw wrong("--kernel holds the kernels of one op, but --op names " + String.join(" and ", ops));
        }
        String file = String.valueOf(kernel.getFileName());
        return ops.isEmpty()
                ? OpCases.benchmarks().stream()
                        .map(one -> Op.stem(one.op()))
                        .filter(file::startsWith)
                        .max(Comparator.comparingInt(String::length))
                        .orElseThrow(() -> wrong(
                                "--kernel " + kernel + ": of which op? Name it by --op, or begin the file's name so"))
                : ops.getFirst();
    }

    private String backendOfKernel() {
        String file = kernel.toString();
        if (!file.endsWith(".cl") && !file.endsWith(".cu")) {
            throw wrong("--kernel " + kernel + ": give OpenCL as .cl or CUDA as .cu");
        }
        String backend = file.endsWith(".cl") ? "opencl" : "cuda";
        if (!(backends.isEmpty() || backends.equals(List.of(backend)))) {
            throw wrong("--kernel " + kernel + " runs on " + backend + ", not on " + String.join(" and ", backends));
        }
        return Backends.find(backend).name();
    }

    private List<OpCase> cases() {
        List<OpCase> all = new ArrayList<>(OpCases.benchmarks());
        if (modelShapes) {
            all.addAll(OpCases.modelShapes());
        }
        List<String> known =
                all.stream().map(one -> Op.stem(one.op())).distinct().toList();
        for (String op : ops) {
            if (!known.contains(op)) {
                throw wrong("--op " + op + ": there is no such op; the nearest is " + Nearest.to(op, known));
            }
        }
        List<OpCase> ofOps = all.stream()
                .filter(one -> ops.isEmpty() || ops.contains(Op.stem(one.op())))
                .toList();
        for (String pattern : patterns) {
            if (ofOps.stream().noneMatch(one -> matches(pattern, one))) {
                throw wrong("--case " + pattern + ": matches no case; the nearest is "
                        + Nearest.toPattern(
                                pattern, ofOps.stream().map(OpCase::label).toList()));
            }
        }
        return ofOps.stream()
                .filter(one -> patterns.isEmpty() || patterns.stream().anyMatch(pattern -> matches(pattern, one)))
                .toList();
    }

    private static boolean matches(String pattern, OpCase opCase) {
        return Targets.matches(pattern, opCase.label()) || Targets.matches(pattern, opCase.name());
    }

    private void print(BenchReport report) {
        Table table = new Table("lllrlrrrl", "op", "case", "backend", "time", "", "GB/s", "GFLOP/s", "ceiling", "");
        for (BenchReport.Result result : report.results()) {
            table.row(
                    result.op(),
                    result.label(),
                    result.backend(),
                    time(result.time(), result.time()),
                    result.error() == null ? "" : "± " + time(result.error(), result.time()),
                    fixed(result.bandwidth() / 1e9),
                    fixed(result.operationRate() / 1e9),
                    result.ceilingPercent() == null
                            ? "-"
                            : String.format(Locale.ROOT, "%.0f %%", result.ceilingPercent()),
                    result.limit() == null ? "" : result.limit());
        }
        table.print(terminal.out());
        for (BenchReport.Device device : report.backends()) {
            String ceilings = device.readBandwidth() == null
                    ? "ceilings not measured"
                    : String.format(
                            Locale.ROOT,
                            "ceilings measured with %d host threads: read %.1f GB/s, copy %.1f GB/s, fp32 %.1f GFLOP/s",
                            report.threads(),
                            device.readBandwidth() / 1e9,
                            device.copyBandwidth() / 1e9,
                            device.operationRate() / 1e9);
            terminal.out()
                    .println(device.name() + ": " + device.device()
                            + (device.isa().isEmpty() ? "" : ", " + device.isa()) + "; " + ceilings);
        }
        for (BenchReport.Result result : report.results()) {
            result.profile()
                    .forEach((label, value) -> terminal.out()
                            .printf(
                                    Locale.ROOT,
                                    "%s on %s  %s  %.4g %s%n",
                                    result.name(),
                                    result.backend(),
                                    label,
                                    value.value(),
                                    value.unit()));
        }
        if (out != null) {
            terminal.out().println("written to " + out + ": bench.json, bench.csv, roofline.svg");
        }
    }

    private void compare() {
        Comparison comparison = Comparison.of(BenchFiles.read(compare.get(0)), BenchFiles.read(compare.get(1)));
        if (common.json) {
            Json.print(terminal, comparison);
            return;
        }
        Table table =
                new Table("lllrlrlrll", "op", "case", "backend", "first", "", "second", "", "ratio", "", "second is");
        for (Comparison.Case one : comparison.cases()) {
            table.row(
                    one.op(),
                    one.label(),
                    one.backend(),
                    time(one.timeBefore(), one.timeBefore()),
                    one.errorBefore() == null ? "" : "± " + time(one.errorBefore(), one.timeBefore()),
                    time(one.timeAfter(), one.timeAfter()),
                    one.errorAfter() == null ? "" : "± " + time(one.errorAfter(), one.timeAfter()),
                    String.format(Locale.ROOT, "%.3f", one.ratio()),
                    one.ratioLow() == null
                            ? ""
                            : String.format(Locale.ROOT, "%.3f to ", one.ratioLow())
                                    + (one.ratioHigh() == null
                                            ? "∞"
                                            : String.format(Locale.ROOT, "%.3f", one.ratioHigh())),
                    switch (one.verdict()) {
                        case FASTER -> "faster";
                        case SLOWER -> "slower";
                        case SAME -> "not significantly different";
                        case UNKNOWN -> "of unknown error";
                    });
        }
        table.print(terminal.out());
        comparison.onlyBefore().forEach(name -> terminal.out().println("only in the first: " + name));
        comparison.onlyAfter().forEach(name -> terminal.out().println("only in the second: " + name));
        if (!devices(comparison.before()).equals(devices(comparison.after()))) {
            terminal.err()
                    .println("warning: the two were measured on different devices: " + devices(comparison.before())
                            + " and " + devices(comparison.after()));
        }
    }

    private static List<String> devices(List<BenchReport.Device> devices) {
        List<String> names = new ArrayList<>();
        devices.forEach(one -> names.add(one.device()));
        return names;
    }

    /** In the unit that suits {@code scale}. */
    private static String time(double seconds, double scale) {
        return scale < 1e-3
                ? String.format(Locale.ROOT, "%.1f µs", 1e6 * seconds)
                : scale < 1
                        ? String.format(Locale.ROOT, "%.3f ms", 1e3 * seconds)
                        : String.format(Locale.ROOT, "%.3f s", seconds);
    }

    private static String fixed(double value) {
        return String.format(Locale.ROOT, value < 10 ? "%.2f" : "%.1f", value);
    }
}

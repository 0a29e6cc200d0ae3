package org.sentei.backend.cuda;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.sentei.backend.gpu.Launch;
import org.sentei.backend.gpu.Launches;
import org.sentei.kernel.Ceilings;
import org.sentei.kernel.InverseCholesky;
import org.sentei.kernel.Op;
import org.sentei.kernel.OpCase;
import org.sentei.kernel.OpCases;
import org.sentei.kernel.QuadraticForm;
import org.sentei.kernel.View;

/**
 * Writes the table of what can be known of each kernel without a GPU: what ptxas says, what is counted in its machine code,
 * and what follows for an H200. {@code kernels/counts.sh} runs it.
 */
final class KernelCounts {
    private static final String TARGET = "sm_90a";
    private static final int MULTIPROCESSORS = 132;
    /** Bytes, bytes and fp32 operations a second: not measured here, see the note under the table. */
    private static final Ceilings H200 = new Ceilings(4.3e12, 4.3e12, 67e12);
    /** Warp instructions a second: four schedulers a multiprocessor, one each at every clock. */
    private static final double ISSUE = MULTIPROCESSORS * 4 * 1.98e9;
    /** Bytes that must be on their way to a multiprocessor for 4.3 TB/s, when a load takes 700 ns. */
    private static final long IN_FLIGHT = (long) (4.3e12 / MULTIPROCESSORS * 700e-9);

    private static final int WARPS = Launch.GROUP / 32;
    private static final Pattern ENTRY = Pattern.compile("Compiling entry function '(\\w+)' for '(\\w+)'");
    private static final Pattern SPILLS = Pattern.compile("(\\d+) bytes spill stores, (\\d+) bytes spill loads");
    private static final Pattern USED = Pattern.compile("Used (\\d+) registers(?:.*?(\\d+) bytes smem)?");
    private static final Pattern FUNCTION = Pattern.compile("\\s*Function : (\\w+)");
    private static final Pattern INSTRUCTION =
            Pattern.compile("\\s*/\\*([0-9a-f]{4,5})\\*/\\s+(@!?U?P\\w+ +)?([A-Z][A-Z0-9_.]*)([^;]*);.*");
    private static final Pattern ADDRESS = Pattern.compile("0x([0-9a-f]+)");

    /** Share of the floor that a kernel shall reach; ops without one have none. */
    private static final Map<String, Integer> TARGETS = Map.of(
            "apply_mask",
            85,
            "column_moments",
            85,
            "count_values",
            85,
            "gram",
            75,
            "score_histogram",
            60,
            "score_select_row",
            45,
            "score_select_groups",
            80,
            "score_select_cut",
            65);

    /** Entries that read again what the cache holds, so that their traffic does not say how often their loops run. */
    private static final Set<String> AGAIN = Set.of(
            "attention_f32",
            "layer_norm_f32",
            "obs_sweep_f32",
            "rms_norm_f32",
            "score_select_cut_f32",
            "score_select_row_f32",
            "score_select_ties_f32",
            "sparse_gemv_bf16");

    /** What ptxas says. */
    private record Need(int registers, int shared, int spilled) {
        /** Groups that fit a multiprocessor of compute capability 9.0. */
        int resident() {
            int rounded = Math.ceilDiv(registers, 8) * 8;
            return Math.min(
                    2048 / Launch.GROUP, Math.min(65536 / (rounded * Launch.GROUP), 227 * 1024 / (shared + 1024)));
        }
    }

    private record Instruction(int address, boolean conditional, String name, String operands) {
        boolean is(String prefix) {
            return name.equals(prefix) || name.startsWith(prefix + ".");
        }

        /** Bytes of global memory that a thread loads or stores. */
        int bytes() {
            if (!is("LDG") && !is("STG") && !is("LDGSTS")) {
                return 0;
            }
            return name.contains(".128")
                    ? 16
                    : name.contains(".64") ? 8 : name.contains("16") ? 2 : name.contains("8") ? 1 : 4;
        }
    }

    /** From one address to another. */
    private record Range(int first, int last) {
        boolean surrounds(Range other) {
            return !equals(other) && first <= other.first() && other.last() <= last;
        }
    }

    /** A stretch of machine code. */
    private record Code(List<Instruction> instructions) {
        int size() {
            return instructions.size();
        }

        long count(String name) {
            return instructions.stream().filter(one -> one.is(name)).count();
        }

        int bytes() {
            return instructions.stream().mapToInt(Instruction::bytes).sum();
        }

        int loaded() {
            return instructions.stream()
                    .filter(one -> !one.is("STG"))
                    .mapToInt(Instruction::bytes)
                    .sum();
        }

        private Code between(int first, int last) {
            return new Code(instructions.stream()
                    .filter(one -> one.address() >= first && one.address() <= last)
                    .toList());
        }

        /** Without what lies behind the last way out: subroutines for operands that are rare, as denormal quotients are. */
        Code body() {
            int end = instructions.stream()
                    .filter(one -> one.is("EXIT") && !one.conditional())
                    .mapToInt(Instruction::address)
                    .max()
                    .orElse(Integer.MAX_VALUE);
            return between(0, end);
        }

        /** Innermost loops: from the target of a branch backwards to the branch. */
        List<Code> loops() {
            List<Range> ranges = new ArrayList<>();
            for (Instruction one : instructions) {
                Matcher target = ADDRESS.matcher(one.operands());
                if (one.is("BRA") && target.find()) {
                    int first = Integer.parseInt(target.group(1), 16);
                    if (first < one.address()) {
                        ranges.add(new Range(first, one.address()));
                    }
                }
            }
            return ranges.stream()
                    .filter(outer -> ranges.stream().noneMatch(outer::surrounds))
                    .map(range -> between(range.first(), range.last()))
                    .toList();
        }

        /** The loop that multiplies most, on tensor cores or not, or else moves most global memory; null without one. */
        Code hot(boolean products) {
            Comparator<Code> multiplies =
                    Comparator.comparingLong(code -> 1000 * code.tensorProducts() + code.products());
            Comparator<Code> moves = Comparator.comparingInt(Code::bytes);
            return loops().stream()
                    .max((products ? multiplies : moves)
                            .thenComparing(multiplies)
                            .thenComparingInt(Code::size))
                    .orElse(null);
        }

        long products() {
            return count("FFMA") + count("DFMA");
        }

        /** Products of tensor cores, of floats or of integers. */
        long tensorProducts() {
            return count("HMMA") + count("IMMA");
        }
    }

    private final Map<String, Need> needs;
    private final Map<String, Code> codes;

    private KernelCounts(Map<String, Need> needs, Map<String, Code> codes) {
        this.needs = needs;
        this.codes = codes;
    }

    /** Takes the folder with what ptxas said of each kernel file, and that with its disassembly. */
    public static void main(String[] arguments) throws IOException {
        Map<String, Need> needs = new TreeMap<>();
        Map<String, Code> codes = new TreeMap<>();
        for (Path report : files(Path.of(arguments[0]), ".ptxas")) {
            needs(Files.readAllLines(report), needs);
        }
        for (Path listing : files(Path.of(arguments[1]), ".sass")) {
            codes(Files.readAllLines(listing), codes);
        }
        if (needs.isEmpty() || !needs.keySet().equals(codes.keySet())) {
            throw new IllegalArgumentException(
                    "ptxas knows " + needs.keySet() + " for " + TARGET + ", the disassembler " + codes.keySet());
        }
        new KernelCounts(needs, codes).write();
    }

    private static List<Path> files(Path folder, String suffix) throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.filter(file -> file.toString().endsWith(suffix))
                    .sorted()
                    .toList();
        }
    }

    private static void needs(List<String> lines, Map<String, Need> needs) {
        String kernel = null;
        int spilled = 0;
        for (String line : lines) {
            Matcher matcher = ENTRY.matcher(line);
            if (matcher.find()) {
                kernel = matcher.group(2).equals(TARGET) ? matcher.group(1) : null;
            }
            matcher = SPILLS.matcher(line);
            if (matcher.find()) {
                spilled = Integer.parseInt(matcher.group(1)) + Integer.parseInt(matcher.group(2));
            }
            matcher = USED.matcher(line);
            if (kernel != null && matcher.find()) {
                int shared = matcher.group(2) == null ? 0 : Integer.parseInt(matcher.group(2));
                needs.put(kernel, new Need(Integer.parseInt(matcher.group(1)), shared, spilled));
            }
        }
    }

    /** Padding, which never runs, is left out. */
    private static void codes(List<String> lines, Map<String, Code> codes) {
        List<Instruction> instructions = new ArrayList<>();
        Map<String, Code> whole = new TreeMap<>();
        for (String line : lines) {
            Matcher matcher = FUNCTION.matcher(line);
            if (matcher.matches()) {
                instructions = new ArrayList<>();
                whole.put(matcher.group(1), new Code(instructions));
            }
            matcher = INSTRUCTION.matcher(line);
            if (matcher.matches() && !matcher.group(3).equals("NOP")) {
                instructions.add(new Instruction(
                        Integer.parseInt(matcher.group(1), 16),
                        matcher.group(2) != null,
                        matcher.group(3),
                        matcher.group(4)));
            }
        }
        whole.forEach((entry, code) -> codes.put(entry, code.body()));
    }

    private void write() {
        say("# Kernels, counted for an H200");
        say("");
        say(
                "**Not run on a GPU.** Nothing in this file is a measured time. Made by `kernels/counts.sh`; what it counts is");
        say("explained under the tables. `sentei bench --gpu-table` makes the table of a real run, of the same cases.");
        say("");
        say("| kernel | shape | entry | groups | bytes | operations | floor, us | limit | instructions an element"
                + " | issue, us | loads in flight, KiB | target, of floor | what is counted says | run |");
        say("|---|---|---|---:|---:|---:|---:|---|---:|---:|---:|---:|---|---|");
        TunedKernels tuned = new TunedKernels(MULTIPROCESSORS);
        Map<String, String> timed = new LinkedHashMap<>();
        for (OpCase opCase : OpCases.benchmarks()) {
            Op op = OpCases.unbacked(opCase);
            Map<String, Launch> launches = new LinkedHashMap<>();
            for (Launch launch : Launches.of(op)) {
                launches.putIfAbsent(launch.entry(), launch);
                Launch better = tuned.of(launch);
                launches.putIfAbsent(better.entry(), better);
            }
            // None of these kernels is the main one.
            boolean several = op instanceof InverseCholesky || op instanceof QuadraticForm;
            int most = launches.values().stream().mapToInt(Launch::groups).max().orElse(0);
            for (Launch launch : launches.values()) {
                boolean main = !several
                        && launches.values().stream()
                                .filter(other -> tuned.of(other)
                                        .entry()
                                        .equals(tuned.of(launch).entry()))
                                .anyMatch(other -> other.groups() == most);
                row(opCase, op, launch, main);
                timed.put(launch.entry(), opCase.name());
            }
        }
        say("");
        say(
                "| entry | registers | groups a multiprocessor | shared memory | spills | instructions | innermost loop: instructions"
                        + " | bytes a thread | FFMA, DFMA, HMMA or IMMA | run |");
        say("|---|---:|---:|---:|---:|---:|---:|---:|---|---|");
        for (String entry : new TreeSet<>(needs.keySet())) {
            Need need = needs.get(entry);
            Code code = codes.get(entry);
            Code hot = code.hot(true);
            say(line(
                    "`" + entry + "`" + (timed.containsKey(entry) ? "" : ", in no timed case"),
                    need.registers(),
                    need.resident(),
                    need.shared(),
                    need.spilled(),
                    code.size(),
                    hot == null ? "-" : hot.size(),
                    (hot == null ? code : hot).bytes(),
                    (hot == null ? code : hot).count("FFMA") + ", " + (hot == null ? code : hot).count("DFMA") + ", "
                            + (hot == null ? code : hot).tensorProducts(),
                    "not run on a GPU"));
        }
        notes();
    }

    private void row(OpCase opCase, Op op, Launch launch, boolean main) {
        long read = op.reads().stream().mapToLong(View::bytes).sum();
        long written = op.writes().stream().mapToLong(View::bytes).sum();
        double floor = H200.seconds(read, written, op.operations());
        Code code = codes.get(launch.entry());
        boolean memory = H200.limit(read, written, op.operations()).equals("memory");
        Code hot = code.hot(!memory);
        long elements = op.writes().getFirst().elements();
        for (View view : op.reads()) {
            elements = Math.max(elements, view.elements());
        }
        boolean tensor = code.tensorProducts() > 0;
        Double instructions = main && !tensor ? warpInstructions(code, hot, launch, op, memory) : null;
        Double issue = instructions == null ? null : instructions / ISSUE;
        long flight = (long) needs.get(launch.entry()).resident()
                * Launch.GROUP
                * (hot == null || hot.loaded() == 0 ? code : hot).loaded();
        String target = "-";
        for (Map.Entry<String, Integer> one : TARGETS.entrySet()) {
            if (launch.entry().startsWith(one.getKey())) {
                target = one.getValue() + " %";
            }
        }
        List<String> reasons = new ArrayList<>();
        if (launch.groups() < MULTIPROCESSORS) {
            reasons.add("groups for " + launch.groups() + " of " + MULTIPROCESSORS + " multiprocessors");
        }
        if (main && memory && flight < IN_FLIGHT) {
            reasons.add(figure(flight / 1024.0) + " of " + IN_FLIGHT / 1024 + " KiB in flight");
        }
        if (tensor) {
            reasons.add("tensor cores: the floor of fp32 does not bind");
        } else if (!main) {
            reasons.add("one of the op's kernels");
        } else if (issue == null) {
            reasons.add("loops run as often as the data ask");
        } else if (issue <= floor) {
            reasons.add("instructions fit the floor");
        } else {
            reasons.add(String.format(Locale.ROOT, "instructions of all paths take %.1f floors", issue / floor));
        }
        say(line(
                opCase.name().substring(0, opCase.name().indexOf('/')),
                opCase.label(),
                "`" + launch.entry() + "`",
                launch.groups(),
                read + written,
                op.operations(),
                figure(1e6 * floor),
                H200.limit(read, written, op.operations()),
                instructions == null ? "-" : figure(32 * instructions / elements),
                issue == null ? "-" : figure(1e6 * issue),
                memory ? figure(flight / 1024.0) : "-",
                target,
                String.join("; ", reasons),
                "not run on a GPU"));
    }

    /** What all warps of a launch issue; null where loops say nothing about how often they run. */
    private static Double warpInstructions(Code code, Code hot, Launch launch, Op op, boolean memory) {
        double warps = (double) launch.groups() * WARPS;
        if (AGAIN.contains(launch.entry())) {
            return null;
        }
        if (hot == null) {
            return warps * code.size();
        }
        if (launch.entry().equals("obs_sweep_block128_f32")) { // four loops over eight times four columns
            int loops = code.loops().stream()
                    .filter(loop -> loop.count("FCHK") > 0)
                    .mapToInt(Code::size)
                    .sum();
            return warps * (code.size() + 7 * loops);
        }
        if (memory) {
            return hot.bytes() == 0
                    ? null
                    : warps * (code.size() - hot.size()) + op.bytes() / (32.0 * hot.bytes()) * hot.size();
        }
        return hot.products() < 16 ? null : op.operations() / (64.0 * hot.products()) * hot.size();
    }

    private static void notes() {
        say("");
        say("""
                Counted: groups from the launch table, bytes and operations from the op's record (each view once), registers, shared
                memory and spills from ptxas, instructions from the disassembly, all for sm_90a. Computed from ceilings that were not
                measured here: the floor, which is the longer of bytes at 4.3 TB/s and operations at 67 TFLOP/s of fp32 (on tensor
                cores operations can be faster, and no issue time is given); the issue time, which is warp instructions at one a
                clock and scheduler, 132 x 4 x 1.98 GHz; and what must be in flight a multiprocessor for 4.3 TB/s, 22 KiB, when a
                load takes 700 ns, which is assumed.

                Instructions: those of the whole kernel once a warp, plus its innermost loop with the most traffic, or products, as
                often as it takes to move the op's bytes, or do its products. All paths count, but no subroutines for rare operands:
                a kernel with branches (the four functions of activations, the fp64 form of norms, the choice of N:M in a sweep, ends
                of rows) issues less, so instructions that fit the floor are no limit, and those that do not may be one. Where a loop
                reads again what the cache holds, or runs as often as the data ask, nothing is said of instructions. Conversions between fp32 and fp64 issue at an
                eighth of the rate that is reckoned with. A target is a share of the floor; ops without one have "-".

                What will miss its floor, and why: `obs_sweep_block128_f32` goes through a chain of four exact divisions 32 times, and
                each of the eight threads of a row does all of them, so instructions and their latency bind it, at 4096 rows with one
                group a multiprocessor. `score_select_row4096_f32` and `score_select_row11264_f32` search registers: instructions
                bind them, not bytes. `attention_residual` on tensor cores multiplies 17 times where its operations count 5 (logits and
                differences of a pair in three passes over rows and for either gradient), each time in six products of bf16: at
                788 TFLOP/s its operations cannot run at more than 39, where operands of bf16 alone, which its tolerance
                excludes, would allow 350. Portable kernels that load one float a thread have too little in flight, and those that
                stripe rows divide 64-bit integers first. `gram` and `gemm` of these small shapes have fewer groups than an H200
                has multiprocessors.""");
    }

    private static String line(Object... cells) {
        StringBuilder line = new StringBuilder("|");
        for (Object cell : cells) {
            line.append(' ').append(cell).append(" |");
        }
        return line.toString();
    }

    private static String figure(double value) {
        return String.format(Locale.ROOT, value >= 100 ? "%.0f" : "%.1f", value);
    }

    private static void say(String line) {
        System.out.println(line);
    }
}

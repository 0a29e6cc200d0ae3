package org.sentei.backend.gpu;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.backend.gpu.Launch.Argument;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Op;
import org.sentei.kernel.OpCases;

/** The kernel files and the table of launches say the same. */
class KernelFilesTest {
    private static final Path KERNELS = Path.of("kernels");
    private static final Pattern ENTRY = Pattern.compile(
            "__kernel __attribute__\\(\\(reqd_work_group_size\\((\\d+), 1, 1\\)\\)\\) void (\\w+)\\(([^)]*)\\)");
    private static final Pattern CONSTANT = Pattern.compile("#define ([A-Z_]+) (\\d+)\n");

    @TempDir
    private Path folder;

    @Test
    void everyOpHasAFileAndEveryFileAnOp() throws IOException {
        try (Stream<Path> files = Files.list(KERNELS.resolve("common"))) {
            assertThat(files.map(file -> file.getFileName().toString()))
                    .containsExactlyInAnyOrderElementsOf(
                            stems().map(stem -> stem + ".inc").toList());
        }
    }

    /** Those of the ops, and of what ops are measured against. */
    private static Stream<String> stems() {
        return Stream.concat(
                Arrays.stream(Op.class.getPermittedSubclasses()).map(op -> Op.stem(op.asSubclass(Op.class))),
                Stream.of("probe"));
    }

    @Test
    void everyKernelIsLaunchedWithTheArgumentsItDeclares() throws IOException, InterruptedException {
        Map<String, String> declared = new TreeMap<>();
        for (String file : stems().toList()) {
            Matcher entry = ENTRY.matcher(preprocessed(file));
            while (entry.find()) {
                assertThat(entry.group(1)).isEqualTo(String.valueOf(Launch.GROUP));
                assertThat(entry.group(2)).startsWith(file + "_");
                declared.put(
                        file + "/" + entry.group(2),
                        Arrays.stream(entry.group(3).split(", "))
                                .map(KernelFilesTest::type)
                                .collect(Collectors.joining(", ")));
            }
        }
        Map<String, Set<String>> launched = new TreeMap<>();
        RecordingDevice probed = new RecordingDevice();
        try (Backend backend = new GpuBackend(probed)) {
            backend.ceilings();
        }
        Stream.concat(
                        OpCases.all().stream()
                                .flatMap(opCase ->
                                        LaunchTable.of(OpCases.unbacked(opCase), new GpuBackend.Unplaced(), 1)
                                                .stream()),
                        probed.launches().stream())
                .forEach(launch -> launched.computeIfAbsent(launch.file() + "/" + launch.entry(), _ -> new TreeSet<>())
                        .add(types(launch)));
        assertThat(launched.keySet()).isEqualTo(declared.keySet());
        launched.forEach((entry, types) -> assertThat(types).as(entry).containsExactly(declared.get(entry)));
    }

    /** {@code __global const float *x} is an address, {@code i64 x_stride} an i64. */
    private static String type(String parameter) {
        return parameter.contains("*") ? "address" : parameter.strip().replaceFirst(" .*", "");
    }

    private static String types(Launch launch) {
        return launch.arguments().stream()
                .map(argument -> switch (argument) {
                    case Argument.Matrix _ -> "address, i64, i64";
                    case Argument.Int32 _ -> "int";
                    case Argument.Int64 _ -> "i64";
                    case Argument.Fp32 _ -> "float";
                    case Argument.Fp64 _ -> "double";
                })
                .collect(Collectors.joining(", "));
    }

    /** A kernel file as an OpenCL compiler with fp64 sees it, with its macros expanded. */
    private String preprocessed(String file) throws IOException, InterruptedException {
        Path source = Files.writeString(folder.resolve(file + ".c"), KernelSource.of(file));
        Path output = folder.resolve(file + ".i");
        Process process = new ProcessBuilder(
                        "gcc", "-E", "-P", "-D__OPENCL_VERSION__=120", "-Dcl_khr_fp64", source.toString())
                .redirectOutput(output.toFile())
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start();
        assertThat(process.waitFor(1, TimeUnit.MINUTES)).isTrue();
        assertThat(process.exitValue()).isZero();
        return Files.readString(output, StandardCharsets.UTF_8).replaceAll("\\s+", " ");
    }

    @Test
    void theTableSplitsWorkAsTheKernelsDo() throws IOException {
        assertThat(constants("portable.h"))
                .containsEntry("GROUP", Launch.GROUP)
                .containsEntry("LANES", Launch.GROUP / LaunchTable.LANE_ROWS);
        assertThat(constants("common/gemm.inc")).containsEntry("TILE", LaunchTable.GEMM_TILE);
        assertThat(constants("common/gram.inc")).containsEntry("TILE", LaunchTable.GRAM_TILE);
        for (String file : List.of("cast", "inverse_cholesky", "quadratic_form")) {
            assertThat(constants("common/" + file + ".inc")).containsEntry("BLOCK", LaunchTable.BLOCK);
        }
        for (String file : List.of("gemv", "sparse_gemv")) {
            assertThat(constants("common/" + file + ".inc")).containsEntry("VECTORS", LaunchTable.VECTORS);
        }
        for (String file : List.of("column_moments", "state_counts")) {
            assertThat(constants("common/" + file + ".inc")).containsEntry("COLUMNS", LaunchTable.COLUMNS);
        }
        assertThat(constants("common/attention.inc")).containsEntry("QUERIES", LaunchTable.QUERIES);
        assertThat(constants("common/conv2d_int8.inc"))
                .containsEntry("PIXELS", LaunchTable.CONV_TILE)
                .containsEntry("FILTERS", LaunchTable.CONV_TILE);
        assertThat(constants("common/probe.inc"))
                .containsEntry("EACH", Probe.EACH)
                .containsEntry("CHAINS", Probe.CHAINS);
        assertThat(constants("common/attention_residual.inc"))
                .containsEntry("TILE_ROWS", LaunchTable.RESIDUAL_ROWS)
                .containsEntry("STATES", LaunchTable.RESIDUAL_STATES);
        int each = constants("common/attention.inc").get("EACH");
        assertThat(Launch.GROUP / LaunchTable.QUERIES * each).isEqualTo(LaunchTable.VALUES);
        int eachResidual = constants("common/attention_residual.inc").get("EACH");
        assertThat(Launch.GROUP / LaunchTable.RESIDUAL_ROWS * eachResidual).isEqualTo(LaunchTable.VALUES);
    }

    private static Map<String, Integer> constants(String file) throws IOException {
        return CONSTANT.matcher(Files.readString(KERNELS.resolve(file)))
                .results()
                .collect(Collectors.toMap(match -> match.group(1), match -> Integer.valueOf(match.group(2))));
    }
}

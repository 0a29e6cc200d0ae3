package org.sentei.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.fail;
import static org.junit.jupiter.api.Assumptions.abort;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.Conformance;
import org.sentei.kernel.OpCase;
import org.sentei.kernel.OpCases;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Every case of the catalogue on every instruction-set tier against the reference: on this processor where it has the
 * tier, and with the kernels under an emulator. Emulated processors have no more than their tier needs, so that a kernel
 * which uses more dies there.
 *
 * <p>{@code SENTEI_REQUIRE_TIERS} names tiers that must run. No QEMU emulates AVX-512: those tiers run where the processor
 * has them, and are skipped elsewhere.
 */
class TierConformanceTest {
    private static final Logger LOG = LoggerFactory.getLogger(TierConformanceTest.class);
    private static final long SEED = 5;

    private static final List<String> REQUIRED =
            Optional.ofNullable(System.getenv("SENTEI_REQUIRE_TIERS")).filter(tiers -> !tiers.isEmpty()).stream()
                    .flatMap(tiers -> Arrays.stream(tiers.split(",")))
                    .toList();

    /**
     * A processor that QEMU emulates.
     *
     * @param machine as {@code uname -m} says it
     * @param model as {@code -cpu} takes it
     * @param cap of the tiers, or empty
     * @param tier the one that is to be chosen
     */
    record Emulation(String machine, String model, String cap, String tier) {
        @Override
        public String toString() {
            return tier + " on an emulated " + model;
        }
    }

    static Stream<Emulation> emulations() {
        return Stream.of(
                new Emulation("x86_64", "qemu64", "", "scalar"),
                new Emulation("x86_64", "Haswell", "", "avx2"),
                new Emulation("aarch64", "cortex-a53", "scalar", "scalar"),
                new Emulation("aarch64", "cortex-a53", "", "neon"));
    }

    static List<String> nativeTiers() {
        return NativeLibrary.ISA_NAMES;
    }

    @ParameterizedTest
    @MethodSource("nativeTiers")
    void everyCaseAgreesWithTheReferenceOnThisProcessor(String tier) {
        try (NativeBackend backend = NativeProvider.open(new Backend.Options(0, 2), tier)) {
            if (!backend.info().isa().equals(tier)) {
                String reason = "this processor has no " + tier;
                if (emulations().anyMatch(emulation -> emulation.tier().equals(tier))) {
                    skip(reason);
                } else {
                    skipUnlessRequired(tier, reason);
                }
            }
            LOG.info("{} on this processor: {} cases agree with the reference", tier, check(backend));
        }
    }

    @ParameterizedTest
    @MethodSource("emulations")
    void everyCaseAgreesWithTheReferenceUnderAnEmulator(Emulation emulation) throws IOException, InterruptedException {
        String emulator = "qemu-" + emulation.machine();
        boolean foreign = !emulation.machine().equals(NativeLibrary.architecture());
        String compiler = foreign ? emulation.machine() + "-linux-gnu-gcc" : "gcc";
        if (!isInstalled(emulator) || !linksStatically(compiler)) {
            skipUnlessRequired(
                    emulation.tier(),
                    emulator + ", or " + compiler + " with a static C library, is not installed; on Debian the packages"
                            + " qemu-user, gcc-aarch64-linux-gnu and libc6-dev-arm64-cross bring them");
        }
        String build = foreign ? "target/" + emulation.machine() : "target";
        Path log = Path.of("target", "kernel-server-" + emulation.machine() + ".log");
        Process make = new ProcessBuilder(
                        "make", "--silent", "-j2", "-C", "native", "CC=" + compiler, "BUILD=" + build, "server")
                .redirectErrorStream(true)
                .redirectOutput(log.toFile())
                .start();
        assertThat(make.waitFor()).as(() -> "make server, see " + log).isZero();

        List<String> command = List.of(
                "timeout",
                "300",
                emulator,
                "-cpu",
                emulation.model(),
                "native/" + build + "/kernel_server",
                emulation.cap());
        try (KernelServer server = new KernelServer(command, log);
                NativeBackend backend = NativeProvider.open(new Backend.Options(0, 1), "", server)) {
            assertThat(server.tier()).isEqualTo(emulation.tier());
            int cases = check(backend);
            // Probes measure a machine and compute no op; the C test checks them.
            assertThat(server.calls().keySet())
                    .filteredOn(kernel -> !kernel.startsWith("probe_"))
                    .as("kernels of kernels.def that a case must reach")
                    .allSatisfy(kernel ->
                            assertThat(server.calls().get(kernel)).as(kernel).isPositive());
            LOG.info(
                    "{}: {} cases agree with the reference, in {} calls of {} kernels",
                    emulation,
                    cases,
                    server.calls().values().stream().mapToInt(Integer::intValue).sum(),
                    server.calls().values().stream().filter(calls -> calls > 0).count());
        }
    }

    @Test
    void requiredTiersExist() {
        assertThat(Stream.concat(emulations().map(Emulation::tier), nativeTiers().stream()))
                .as("tiers that SENTEI_REQUIRE_TIERS may name")
                .containsAll(REQUIRED);
    }

    /** Returns how many cases there were. */
    private static int check(Backend candidate) {
        List<OpCase> cases = OpCases.all();
        try (Backend reference = Backends.find("reference").open(Backend.Options.defaults())) {
            Conformance conformance = new Conformance(candidate, reference);
            assertThat(cases.stream().flatMap(opCase -> conformance.check(opCase, SEED).failure().stream()))
                    .isEmpty();
        }
        return cases.size();
    }

    private static boolean isInstalled(String program) {
        return Arrays.stream(System.getenv("PATH").split(File.pathSeparator))
                .anyMatch(directory -> Files.isExecutable(Path.of(directory, program)));
    }

    /** Whether a compiler is there and finds a C library for {@code -static}: then it prints the whole path. */
    private static boolean linksStatically(String compiler) throws IOException {
        return isInstalled(compiler)
                && Path.of(output(List.of(compiler, "-print-file-name=libc.a"))).isAbsolute();
    }

    private static String output(List<String> command) throws IOException {
        try (BufferedReader reader = new ProcessBuilder(command).start().inputReader()) {
            return reader.readLine();
        }
    }

    private static void skipUnlessRequired(String tier, String reason) {
        if (REQUIRED.contains(tier)) {
            fail("SENTEI_REQUIRE_TIERS requires " + tier + ", but " + reason);
        }
        skip(reason);
    }

    private static void skip(String reason) {
        LOG.warn("skipped: {}", reason);
        abort(reason);
    }
}

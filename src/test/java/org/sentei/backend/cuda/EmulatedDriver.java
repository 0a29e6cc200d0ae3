package org.sentei.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.fail;
import static org.junit.jupiter.api.Assumptions.abort;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The CUDA driver of {@code kernels/emulator}: it runs the shipped kernels on the host. Processes of their own load it, so
 * that neither a real driver nor the rest of the tests ever meets it.
 *
 * <p>{@code SENTEI_REQUIRE_TOOLS} names the tools that must be there ({@code g++}, {@code nvcc}); without them tests are skipped.
 */
final class EmulatedDriver {
    private static final Logger LOG = LoggerFactory.getLogger(EmulatedDriver.class);
    private static final List<String> REQUIRED =
            Optional.ofNullable(System.getenv("SENTEI_REQUIRE_TOOLS")).filter(tools -> !tools.isEmpty()).stream()
                    .flatMap(tools -> Arrays.stream(tools.split(",")))
                    .toList();

    private final Path library;
    private final Path images;

    private EmulatedDriver(Path library, Path images) {
        this.library = library;
        this.images = images;
    }

    /** What a process said. */
    record Outcome(int exit, List<String> lines, String errors) {
        /** The lines that begin with this word, without it. */
        List<String> of(String word) {
            return lines.stream()
                    .filter(line -> line.startsWith(word + " "))
                    .map(line -> line.substring(word.length() + 1))
                    .toList();
        }

        long count(String counter) {
            return of("count").stream()
                    .filter(line -> line.startsWith(counter + " "))
                    .mapToLong(line -> Long.parseLong(line.substring(counter.length() + 1)))
                    .findFirst()
                    .orElseThrow(() -> new AssertionError(this));
        }
    }

    /** Builds what has changed of the driver, and images in which it finds every kernel. */
    static EmulatedDriver build(Path folder) throws IOException, InterruptedException {
        for (String tool : List.of("g++", "make")) {
            if (Arrays.stream(System.getenv("PATH").split(File.pathSeparator))
                    .noneMatch(directory -> Files.isExecutable(Path.of(directory, tool)))) {
                skipUnlessRequired(tool, "which builds the emulated CUDA driver");
            }
        }
        make();
        return new EmulatedDriver(
                Path.of("kernels/target/emulator/libcuda.so.1").toAbsolutePath(), images(folder));
    }

    static void skipUnlessRequired(String tool, String purpose) {
        String reason = tool + ", " + purpose + ", is not installed";
        if (REQUIRED.contains(tool)) {
            fail("SENTEI_REQUIRE_TOOLS requires " + tool + ", but " + reason);
        }
        LOG.warn("skipped: {}", reason);
        abort(reason);
    }

    private static void make(String... arguments) throws IOException, InterruptedException {
        Path log = Path.of("target", "emulated-driver.log");
        List<String> command = new ArrayList<>(List.of("make", "--silent", "-j2", "-C", "kernels", "emulator"));
        command.addAll(List.of(arguments));
        Process make = new ProcessBuilder(command)
                .redirectErrorStream(true)
                .redirectOutput(log.toFile())
                .start();
        assertThat(make.waitFor()).as(() -> "make emulator, see " + log).isZero();
    }

    /** Kernel files that there are. */
    static List<String> stems() throws IOException {
        try (Stream<Path> files = Files.list(Path.of("kernels/common"))) {
            return files.map(file -> file.getFileName().toString().replace(".inc", ""))
                    .sorted()
                    .toList();
        }
    }

    /** Fatbins without content, which the driver takes for real ones, so that this needs no nvcc. */
    static Path images(Path folder) throws IOException {
        Path home = Files.createDirectories(folder.resolve("org/sentei/backend/cuda/kernels"));
        byte[] image = ByteBuffer.allocate(16)
                .order(ByteOrder.LITTLE_ENDIAN)
                .putInt(0xba55ed50)
                .putShort((short) 1)
                .putShort((short) 16)
                .array();
        List<String> list = new ArrayList<>(List.of("toolkit=13.0", "targets=sm_80 sm_90a compute_80"));
        for (String stem : stems()) {
            Files.write(home.resolve(stem + ".fatbin"), image);
            list.add(stem + "=" + sha256(image));
        }
        Files.write(home.resolve("kernels.properties"), list);
        return folder;
    }

    private static String sha256(byte[] content) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(content));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    /** The same driver without one of its functions. */
    EmulatedDriver without(Path folder, String function) throws IOException, InterruptedException {
        Path script = folder.resolve("hide.map");
        Files.writeString(script, "{ local: " + function + "; };");
        make("HIDE=" + script, "LIBRARY=" + folder.resolve("libcuda.so.1"));
        return new EmulatedDriver(folder.resolve("libcuda.so.1"), images);
    }

    /** The emulated cuBLASLt. */
    static Path blas() {
        return Path.of("kernels/target/emulator/libcublasLt.so.13").toAbsolutePath();
    }

    /** The same without one of its functions, in a folder. */
    static Path blasWithout(Path folder, String function) throws IOException, InterruptedException {
        Path script = folder.resolve("hide.map");
        Files.writeString(script, "{ local: " + function + "; };");
        Path blas = folder.resolve("libcublasLt.so.13");
        make("HIDE=" + script, "BLAS=" + blas);
        return blas;
    }

    /** Runs {@link EmulatedCuda} with these arguments and environment, and without cuBLASLt. */
    Outcome run(Map<String, String> environment, String... arguments) throws IOException, InterruptedException {
        return run("none", environment, arguments);
    }

    /** The same with a setting of cuBLASLt. */
    Outcome run(String blas, Map<String, String> environment, String... arguments)
            throws IOException, InterruptedException {
        return run(
                List.of("-Dsentei.cublaslt=" + blas),
                environment,
                EmulatedCuda.class.getName(),
                Stream.concat(Stream.of(images.toString()), Stream.of(arguments))
                        .toList());
    }

    /** Runs a class with this driver, and with the images where a build has its kernels. */
    Outcome run(List<String> options, Map<String, String> environment, String main, List<String> arguments)
            throws IOException, InterruptedException {
        Path output = Files.createTempFile(images, "run", ".out");
        Path errors = Files.createTempFile(images, "run", ".err");
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "--enable-native-access=ALL-UNNAMED",
                "-Dsentei.native.dir=" + images.resolve("native"),
                "-Dsentei.cuda.driver=" + library,
                "-cp",
                images
                        + File.pathSeparator
                        + System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"))));
        command.add("-Dsentei.cublaslt=none");
        command.addAll(options);
        command.add(main);
        command.addAll(arguments);
        ProcessBuilder builder =
                new ProcessBuilder(command).redirectOutput(output.toFile()).redirectError(errors.toFile());
        builder.environment().putAll(environment);
        Process process = builder.start();
        if (!process.waitFor(5, TimeUnit.MINUTES)) {
            process.destroyForcibly();
            fail(command + " did not end");
        }
        return new Outcome(process.exitValue(), Files.readAllLines(output), Files.readString(errors));
    }
}

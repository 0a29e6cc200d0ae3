package org.example.embedder;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * A JVM of its own: all it prints is heard, natively printed lines too, and it has to end by itself.
 *
 * @param left what lies in its folder for temporary files afterwards
 */
record Child(int exit, List<String> out, List<String> err, List<Path> left) {
    /** Class path of the tests. */
    static final String CLASS_PATH =
            System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));

    /**
     * Runs {@link Pruner}.
     *
     * @param folder for what it prints
     * @param paths options of the JVM that end in the main class
     */
    static Child run(Path folder, List<String> paths, String... arguments) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        Path temporary = Files.createDirectory(folder.resolve("tmp"));
        command.add("-Djava.io.tmpdir=" + temporary);
        command.addAll(paths);
        command.addAll(Arrays.asList(arguments));
        Path out = folder.resolve("child.out");
        Path err = folder.resolve("child.err");
        Process process = new ProcessBuilder(command)
                .redirectOutput(out.toFile())
                .redirectError(err.toFile())
                .start();
        if (!process.waitFor(2, TimeUnit.MINUTES)) {
            process.destroyForcibly();
            throw new AssertionError("the child hangs: " + command);
        }
        // SLF4J says once by itself that it has nothing to log to.
        List<String> said = Files.readAllLines(err).stream()
                .filter(line -> !line.startsWith("SLF4J"))
                .toList();
        try (Stream<Path> left = Files.list(temporary)) {
            return new Child(process.exitValue(), Files.readAllLines(out), said, left.toList());
        }
    }
}

package org.sentei.fuzz;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.Stream;

/** One kind of file: how to damage it, and how it is used when it is accepted all the same. */
interface FuzzTarget {
    /**
     * Writes the damaged input of one case.
     *
     * @param random decides everything
     * @param folder of this target alone; what the last case left may be there
     */
    Case make(SplittableRandom random, Path folder) throws IOException;

    /**
     * A case to run.
     *
     * @param input the damaged file
     * @param subjects of which a refusal must name one
     * @param use reads the input through the public interface, as far as it can be used
     */
    record Case(Path input, List<String> subjects, Use use) {}

    /** Uses an input; may throw what the interface throws. */
    interface Use {
        /** Runs to the end, or throws one of the exceptions that say what is wrong with the input. */
        void run() throws IOException;
    }

    /** Bytes of a file, for the budget of memory. */
    static long bytes(Path file) throws IOException {
        if (!Files.isDirectory(file)) {
            return Files.size(file);
        }
        try (Stream<Path> files = Files.list(file)) {
            return files.mapToLong(entry -> entry.toFile().length()).sum();
        }
    }
}

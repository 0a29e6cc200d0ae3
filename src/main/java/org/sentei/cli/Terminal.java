package org.sentei.cli;

import java.io.Console;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/**
 * Where a command speaks.
 *
 * @param out results
 * @param err everything else
 * @param interactive whether somebody is looking, so that a line may be redrawn
 */
record Terminal(PrintStream out, PrintStream err, boolean interactive) {
    /** The process's own streams, in UTF-8 whatever the locale. */
    @SuppressWarnings("SystemConsoleNull") // it is null where the module jdk.internal.le is not resolved
    static Terminal ofProcess() {
        Console console = System.console();
        boolean interactive = console != null && console.isTerminal();
        return new Terminal(
                new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8),
                new PrintStream(new FileOutputStream(FileDescriptor.err), true, StandardCharsets.UTF_8),
                interactive);
    }
}

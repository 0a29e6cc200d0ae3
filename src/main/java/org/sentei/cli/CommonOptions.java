package org.sentei.cli;

import picocli.CommandLine.Option;

/** Options that every command takes. */
final class CommonOptions {
    @Option(
            names = "--json",
            description = "Print exactly one JSON document on stdout; everything else goes to stderr.")
    boolean json;

    @Option(
            names = "--threads",
            paramLabel = "N",
            description = "Threads to compute with; results do not depend on it. Default: one a processor.")
    Integer threads;

    @Option(
            names = {"-v", "--verbose"},
            description = "Log what happens, and print stack traces of errors.")
    boolean verbose;

    @Option(
            names = {"-h", "--help"},
            usageHelp = true,
            description = "Show this help.")
    boolean help;
}

package org.sentei.cli;

import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import org.sentei.engine.Sentei;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code sentei merge-stats}: one file of statistics from those of shards. */
@Command(
        name = "merge-stats",
        description =
                "Merges the statistics of disjoint shards of one calibration text. The order of the files does not"
                        + " matter, and some of the shards can be merged before others.",
        footer = {
            "",
            "Example: three shards into one",
            "  sentei merge-stats a.safetensors b.safetensors c.safetensors --out all.safetensors"
        })
final class MergeStatsCommand implements Callable<Integer> {
    private final Terminal terminal;

    @Parameters(arity = "1..*", paramLabel = "FILE", description = "Files that sentei stats or merge-stats wrote.")
    private List<Path> shards;

    @Option(names = "--out", required = true, paramLabel = "FILE", description = "safetensors file to write; absent.")
    private Path out;

    @Mixin
    private CommonOptions common;

    MergeStatsCommand(Terminal terminal) {
        this.terminal = terminal;
    }

    @Override
    public Integer call() {
        StatsCommand.tell(Sentei.mergeStatistics(shards, out), out, common.json, terminal);
        return ExitCode.OK;
    }
}

package org.sentei.cli;

import java.nio.file.Path;
import java.util.concurrent.Callable;
import java.util.function.BooleanSupplier;
import org.sentei.engine.Plan;
import org.sentei.engine.Sentei;
import org.sentei.engine.Shard;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code sentei stats}: the statistics of calibration data, or of a shard of them. */
@Command(
        name = "stats",
        description =
                "Collects the statistics that a recipe needs of its calibration data, or of one shard of them, into a"
                        + " file. compress --statistics takes it, merge-stats merges those of all shards: the masks are the"
                        + " same as in one pass. The recipe must say sequential: false.",
        footer = {
            "",
            "Example: two machines share the calibration",
            "  sentei stats llama/ --recipe mine.yaml --calibration text.txt --shard 1/2 --out a.safetensors",
            "  sentei stats llama/ --recipe mine.yaml --calibration text.txt --shard 2/2 --out b.safetensors",
            "  sentei merge-stats b.safetensors a.safetensors --out all.safetensors",
            "  sentei compress llama/ --recipe mine.yaml --statistics all.safetensors --out llama-50/"
        })
final class StatsCommand implements Callable<Integer> {
    private final Terminal terminal;
    private final BooleanSupplier cancelled;

    @Spec
    private CommandSpec command;

    @Mixin
    private WorkOptions work;

    @Option(
            names = "--shard",
            paramLabel = "I/N",
            defaultValue = "1/1",
            description = "The I-th of N shards of the calibration data, counted from 1. Default: all of them.")
    private String shard;

    @Option(names = "--out", required = true, paramLabel = "FILE", description = "safetensors file to write; absent.")
    private Path out;

    @Mixin
    private CommonOptions common;

    StatsCommand(Terminal terminal, BooleanSupplier cancelled) {
        this.terminal = terminal;
        this.cancelled = cancelled;
    }

    @Override
    public Integer call() {
        Shard part = shard();
        Sentei.Collected collected;
        try (Plan plan = Sentei.plan(work.request(common))) {
            plan.warnings().forEach(warning -> terminal.err().println("warning: " + warning));
            try (ProgressBar progress = new ProgressBar(terminal, cancelled)) {
                collected = plan.saveStatistics(part, out, progress);
            }
        }
        tell(collected, out, common.json, terminal);
        return ExitCode.OK;
    }

    private Shard shard() {
        if (!shard.matches("[0-9]{1,6}/[0-9]{1,6}")) {
            throw new ParameterException(command.commandLine(), "--shard " + shard + ": give I/N, for example 1/4");
        }
        int slash = shard.indexOf('/');
        return new Shard(Integer.parseInt(shard.substring(0, slash)), Integer.parseInt(shard.substring(slash + 1)));
    }

    record Document(String out, Sentei.Collected statistics) {}

    /** Says what a file holds. */
    static void tell(Sentei.Collected collected, Path file, boolean json, Terminal terminal) {
        if (collected.mayRoundDifferently()) {
            terminal.err()
                    .println(
                            "warning: these statistics come from devices that may round differently than a single pass: "
                                    + String.join("; ", collected.made()));
        }
        if (json) {
            Json.print(terminal, new Document(file.toString(), collected));
        } else {
            terminal.out()
                    .println(file + ": statistics of " + collected.inputs() + " inputs over " + collected.tokens()
                            + " tokens, " + collected.batches() + " of " + collected.total() + " batches");
        }
    }
}

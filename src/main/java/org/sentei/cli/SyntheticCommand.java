package org.sentei.cli;

import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.function.BooleanSupplier;
import org.sentei.engine.Sentei;
import org.sentei.engine.recipe.Nearest;
import org.sentei.format.SyntheticLlama;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code sentei synthetic}: a checkpoint of random weights to measure on. */
@Command(
        name = "synthetic",
        description = "Writes a synthetic checkpoint in the shape of a Llama model: random bf16 weights in shards, a"
                + " configuration, and a tokenizer of bytes. It is for measuring speed and memory; what it"
                + " computes means nothing.",
        footer = {
            "",
            "Example: how long a model of seven billion weights takes, and how much memory",
            "  sentei synthetic 7b --out synthetic-7b",
            "  sentei compress synthetic-7b --recipe magnitude-50 --out pruned-7b"
        })
final class SyntheticCommand implements Callable<Integer> {
    private final Terminal terminal;
    private final BooleanSupplier cancelled;

    @Spec
    private CommandSpec spec;

    @Parameters(
            index = "0",
            paramLabel = "SHAPE",
            description = "tiny (0.4 MB), 1b (2.2 GB), 7b (13.5 GB) or 70b (138 GB).")
    private String shape;

    @Option(names = "--out", required = true, paramLabel = "DIR", description = "Folder to write; absent or empty.")
    private Path out;

    @Option(
            names = "--seed",
            paramLabel = "N",
            defaultValue = "1",
            description = "Seed of the weights. Default: ${DEFAULT-VALUE}.")
    private long seed;

    @Mixin
    private CommonOptions common;

    SyntheticCommand(Terminal terminal, BooleanSupplier cancelled) {
        this.terminal = terminal;
        this.cancelled = cancelled;
    }

    record Document(String model, String shape, long seed, long parameters, long bytes) {}

    @Override
    public Integer call() {
        SyntheticLlama found = found();
        try (ProgressBar progress = new ProgressBar(terminal, cancelled)) {
            Sentei.synthesize(found, seed, out, progress);
        }
        if (common.json) {
            Json.print(terminal, new Document(out.toString(), found.key(), seed, found.parameters(), found.bytes()));
        } else {
            terminal.out()
                    .printf(
                            Locale.ROOT,
                            "%s: a synthetic model of %,d random weights, %,d bytes%n",
                            out,
                            found.parameters(),
                            found.bytes());
        }
        return ExitCode.OK;
    }

    private SyntheticLlama found() {
        List<String> known =
                Arrays.stream(SyntheticLlama.values()).map(SyntheticLlama::key).toList();
        return Arrays.stream(SyntheticLlama.values())
                .filter(one -> one.key().equals(shape))
                .findFirst()
                .orElseThrow(() -> new ParameterException(
                        spec.commandLine(),
                        "there is no shape " + shape + "; the nearest is " + Nearest.to(shape, known) + " (of "
                                + String.join(", ", known) + ")"));
    }
}

package org.sentei.cli;

import java.math.BigDecimal;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import org.sentei.engine.training.GraphTraining;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code sentei cut}: the network of another rate, without another training. */
@Command(
        name = "cut",
        description = "Writes the network of another rate from latent weights that were trained for many.",
        footer = {
            "",
            "Example: a recipe with from_rate: 0.5 and rate: 0.99, trained once, then one of which 7 of 8 weights are zero",
            "  sentei train --recipe many.yaml --data cora/ --out many/",
            "  sentei cut many/ --rate 0.875 --out cora-875/"
        })
final class CutCommand implements Callable<Integer> {
    private final Terminal terminal;

    @Parameters(index = "0", paramLabel = "DIR", description = "Folder of a training for many rates.")
    private Path folder;

    @Option(names = "--rate", required = true, paramLabel = "R", description = "Share of the weights that go.")
    private BigDecimal rate;

    @Option(names = "--out", required = true, paramLabel = "DIR", description = "Folder to write; absent or empty.")
    private Path out;

    @Mixin
    private ComputeOptions compute;

    @Mixin
    private CommonOptions common;

    CutCommand(Terminal terminal) {
        this.terminal = terminal;
    }

    record Document(String model, String output, String rate, long zeros, long prunable, List<String> warnings) {}

    @Override
    public Integer call() {
        compute.check();
        compute.warn(terminal);
        GraphTraining.Cut cut = GraphTraining.cut(folder, rate, out, compute.backend, compute.options(common));
        cut.warnings().forEach(warning -> terminal.err().println("warning: " + warning));
        if (common.json) {
            Json.print(
                    terminal,
                    new Document(
                            folder.toString(),
                            out.toString(),
                            rate.toPlainString(),
                            cut.zeros(),
                            cut.prunable(),
                            cut.warnings()));
        } else {
            terminal.out()
                    .printf(
                            Locale.ROOT,
                            "%s: %,d of %,d weights are zero (asked for %s)%n",
                            out,
                            cut.zeros(),
                            cut.prunable(),
                            rate);
        }
        return ExitCode.OK;
    }
}

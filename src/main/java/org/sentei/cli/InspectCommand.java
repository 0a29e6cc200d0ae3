package org.sentei.cli;

import java.util.Locale;
import java.util.concurrent.Callable;
import org.sentei.engine.Inspection;
import org.sentei.engine.Sentei;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

/** {@code sentei inspect}: what is in a model. */
@Command(
        name = "inspect",
        description =
                "Shows a model's architecture and its sites: the linear layers that recipes can target, with their"
                        + " exact zeros and N:M pattern.",
        footer = {"", "Example: how sparse is what demo wrote?", "  sentei inspect sentei-demo/model.onnx"})
final class InspectCommand implements Callable<Integer> {
    private final Terminal terminal;

    @Mixin
    private ModelArgument model;

    @Mixin
    private CommonOptions common;

    InspectCommand(Terminal terminal) {
        this.terminal = terminal;
    }

    @Override
    public Integer call() {
        Inspection inspection = Sentei.inspect(model.locate());
        if (common.json) {
            Json.print(terminal, inspection);
            return ExitCode.OK;
        }
        Table table = new Table("lrrlrrl", "site", "rows", "cols", "dtype", "parameters", "zeros", "pattern");
        for (Inspection.SiteSummary site : inspection.sites()) {
            table.row(
                    site.name(),
                    String.valueOf(site.rows()),
                    String.valueOf(site.cols()),
                    site.dtype(),
                    site.parameters(),
                    percent(site.zeros(), site.parameters()),
                    site.pattern());
        }
        table.print(terminal.out());
        Inspection.Totals totals = inspection.totals();
        terminal.out()
                .printf(
                        Locale.ROOT,
                        "%n%s: %,d sites with %,d parameters, %s of them zero; %,d parameters and %,d bytes in all%n",
                        inspection.architecture(),
                        totals.sites(),
                        totals.parameters(),
                        percent(totals.zeros(), totals.parameters()),
                        totals.modelParameters(),
                        totals.bytes());
        return ExitCode.OK;
    }

    private static String percent(long part, long whole) {
        return String.format(Locale.ROOT, "%.2f %%", whole == 0 ? 0 : 100.0 * part / whole);
    }
}

package org.sentei.cli;

import java.nio.file.Path;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.function.BooleanSupplier;
import org.sentei.engine.CompressionRequest;
import org.sentei.engine.GateException;
import org.sentei.engine.Journaling;
import org.sentei.engine.Plan;
import org.sentei.engine.Sentei;
import org.sentei.engine.report.Report;
import org.sentei.engine.report.ReportWriter;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code sentei compress}: the main job. */
@Command(
        name = "compress",
        description =
                "Compresses a model by a recipe into a new folder: the model under its own file names, recipe.yaml,"
                        + " report.json and report.html.",
        footer = {
            "",
            "Example: half of the weights of every row, judged before and after",
            "  sentei compress llama/ --recipe stade-50 --calibration text.txt --data held-out.txt \\",
            "    --out llama-50/"
        })
final class CompressCommand implements Callable<Integer> {
    private final Terminal terminal;
    private final BooleanSupplier cancelled;

    @Mixin
    private WorkOptions work;

    @Option(names = "--out", required = true, paramLabel = "DIR", description = "Folder to write; absent or empty.")
    private Path out;

    @Option(
            names = "--resume",
            description =
                    "Go on where an interrupted run into DIR stopped; start from the beginning where there is none.")
    private boolean resume;

    @Mixin
    private CommonOptions common;

    CompressCommand(Terminal terminal, BooleanSupplier cancelled) {
        this.terminal = terminal;
        this.cancelled = cancelled;
    }

    @Override
    public Integer call() {
        Journaling journaling = resume ? Journaling.RESUME : Journaling.ON;
        run(work.request(common), out, journaling, common.json, terminal, cancelled);
        return ExitCode.OK;
    }

    /** Plans, runs and tells. */
    static void run(
            CompressionRequest request,
            Path out,
            Journaling journaling,
            boolean json,
            Terminal terminal,
            BooleanSupplier cancelled) {
        Report report;
        try (Plan plan = Sentei.plan(request)) {
            for (String warning : plan.warnings()) {
                terminal.err().println("warning: " + warning);
            }
            ProgressBar progress = new ProgressBar(terminal, cancelled);
            try (progress) {
                report = plan.run(out, journaling, progress);
            } catch (RuntimeException failure) {
                throw progress.withRemains(failure);
            }
        } catch (GateException missed) {
            tell(missed.report(), out.resolve("rejected"), json, terminal);
            throw missed;
        }
        tell(report, out, json, terminal);
    }

    private static void tell(Report report, Path folder, boolean json, Terminal terminal) {
        if (json) {
            terminal.out().print(ReportWriter.json(report));
            return;
        }
        Report.Totals totals = report.totals();
        // A step that makes a network shallower alone has no sites.
        String zeros = report.sites().isEmpty()
                ? ""
                : String.format(
                        Locale.ROOT,
                        "%,d of %,d weights are zero (%.1f %%) in %d layers, ",
                        totals.zeros(),
                        totals.parameters(),
                        100 * totals.sparsity(),
                        report.sites().size());
        terminal.out().printf(Locale.ROOT, "%s: %s%.1f s%n", folder, zeros, report.seconds());
        Report.Depth depth = report.depth();
        if (depth != null) {
            terminal.out()
                    .printf(
                            Locale.ROOT,
                            "%d of %d activations are linear, %d merges; depth %d, was %d; a run takes %.3f ms, took %.3f ms%n",
                            depth.madeLinear(),
                            depth.madeLinear()
                                    + depth.activations().stream()
                                            .filter(activation -> !activation.linear())
                                            .count(),
                            depth.merges().stream()
                                    .filter(Report.LayerMerge::made)
                                    .count(),
                            depth.after().depth(),
                            depth.before().depth(),
                            1e3 * depth.after().seconds(),
                            1e3 * depth.before().seconds());
        }
        if (!report.quality().isEmpty()) {
            Table table = new Table("lrr", "quality", "before", "after");
            report.quality().forEach(measure -> table.row(measure.metric(), measure.before(), measure.after()));
            table.print(terminal.out());
        }
        terminal.out().println("report: " + folder.resolve("report.html"));
    }
}

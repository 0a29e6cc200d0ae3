package org.sentei.cli;

import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import org.sentei.engine.Plan;
import org.sentei.engine.Sentei;
import org.sentei.engine.report.Report;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

/** {@code sentei plan}: what compress would do. */
@Command(
        name = "plan",
        description = "Shows what compress would do: sites and methods, which backend runs which op, memory and time."
                + " Writes nothing.",
        footer = {"", "Example: check a recipe against a model", "  sentei plan all-minilm-l6-v2 --recipe mine.yaml"})
final class PlanCommand implements Callable<Integer> {
    private final Terminal terminal;

    @Mixin
    private WorkOptions work;

    @Mixin
    private CommonOptions common;

    PlanCommand(Terminal terminal) {
        this.terminal = terminal;
    }

    record Document(
            List<Plan.PlannedSite> sites,
            List<Report.Binding> backends,
            long memoryBytes,
            double seconds,
            List<String> warnings) {}

    @Override
    public Integer call() {
        try (Plan plan = Sentei.plan(work.request(common))) {
            Document document =
                    new Document(plan.sites(), plan.bindings(), plan.memoryBytes(), plan.seconds(), plan.warnings());
            if (common.json) {
                Json.print(terminal, document);
            } else {
                print(document);
            }
            return ExitCode.OK;
        }
    }

    private void print(Document plan) {
        Table sites = new Table("llrrrr", "site", "method", "rows", "cols", "sparsity", "pruned");
        for (Plan.PlannedSite site : plan.sites()) {
            sites.row(
                    site.name(),
                    site.method(),
                    String.valueOf(site.rows()),
                    String.valueOf(site.cols()),
                    site.requested(),
                    site.pruned());
        }
        sites.print(terminal.out());
        terminal.out().println();
        Table backends = new Table("lll", "op", "backend", "device");
        plan.backends().forEach(binding -> backends.row(binding.op(), binding.backend(), binding.device()));
        backends.print(terminal.out());
        terminal.out()
                .printf(
                        Locale.ROOT,
                        "%nabout %.0f MiB on the device, about %.0f s%n",
                        plan.memoryBytes() / 0x1p20,
                        plan.seconds());
        plan.warnings().forEach(warning -> terminal.err().println("warning: " + warning));
    }
}

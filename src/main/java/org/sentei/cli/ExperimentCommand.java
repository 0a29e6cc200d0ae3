package org.sentei.cli;

import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.function.BooleanSupplier;
import org.sentei.engine.experiment.AttentionSynthetic;
import org.sentei.engine.experiment.AttentionSyntheticFiles;
import org.sentei.engine.experiment.AttentionSyntheticRecipe;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code sentei experiment}: runs a documented experiment again. */
@Command(
        name = "experiment",
        description = {
            "Runs a documented experiment again and draws its figure.",
            "attention-synthetic: six ways to prune the attention matrix of synthetic sequences (docs/methods/attention.md)."
        },
        footer = {
            "",
            "Example: with other sizes",
            "  sentei experiment attention-synthetic --print > mine.yaml",
            "  sentei experiment attention-synthetic --recipe mine.yaml --out results/"
        })
final class ExperimentCommand implements Callable<Integer> {
    private static final List<String> NAMES = List.of("attention-synthetic");

    private final Terminal terminal;
    private final BooleanSupplier cancelled;

    @Spec
    private CommandSpec command;

    @Parameters(index = "0", paramLabel = "NAME", description = "attention-synthetic")
    private String name;

    @Option(
            names = "--recipe",
            paramLabel = "FILE",
            description = "Sizes, kinds of data and seeds (YAML). Default: the built-in ones.")
    private Path recipe;

    @Option(names = "--print", description = "Print the built-in recipe and do nothing else.")
    private boolean print;

    @Option(
            names = "--out",
            paramLabel = "DIR",
            description = "Folder for NAME.json, NAME.md and NAME.svg. Default: NAME in the current folder.")
    private Path out;

    @Mixin
    private CommonOptions common;

    ExperimentCommand(Terminal terminal, BooleanSupplier cancelled) {
        this.terminal = terminal;
        this.cancelled = cancelled;
    }

    record Document(String experiment, AttentionSyntheticRecipe recipe, List<Result> results) {
        record Result(String data, String sparsity, String method, double error, double spread) {}
    }

    @Override
    public Integer call() {
        if (!NAMES.contains(name)) {
            throw new ParameterException(
                    command.commandLine(),
                    "experiment " + name + " is not known; there is " + String.join(", ", NAMES));
        }
        if (common.threads != null && common.threads < 1) {
            throw new ParameterException(command.commandLine(), "--threads " + common.threads + ": give 1 or more");
        }
        if (print) {
            terminal.out().print(AttentionSyntheticRecipe.builtInText());
            return ExitCode.OK;
        }
        AttentionSyntheticRecipe settings =
                recipe == null ? AttentionSyntheticRecipe.builtIn() : AttentionSyntheticRecipe.load(recipe);
        Path folder = out == null ? Path.of(name) : out;
        int threads = common.threads == null ? Runtime.getRuntime().availableProcessors() : common.threads;
        List<AttentionSynthetic.Cell> cells;
        try (ProgressBar progress = new ProgressBar(terminal, cancelled)) {
            cells = AttentionSynthetic.run(settings, threads, progress);
        }
        AttentionSyntheticFiles.write(folder, settings, cells);
        if (common.json) {
            Json.print(
                    terminal,
                    new Document(
                            name,
                            settings,
                            cells.stream().map(ExperimentCommand::result).toList()));
            return ExitCode.OK;
        }
        Table table = new Table("lllrr", "data", "sparsity", "method", "error", "spread");
        for (AttentionSynthetic.Cell cell : cells) {
            Document.Result result = result(cell);
            table.row(result.data(), result.sparsity(), result.method(), result.error(), result.spread());
        }
        table.print(terminal.out());
        terminal.out().println("figure: " + folder.resolve(name + ".svg"));
        return ExitCode.OK;
    }

    private static Document.Result result(AttentionSynthetic.Cell cell) {
        return new Document.Result(
                cell.data(), cell.sparsity().toString(), cell.method().title(), cell.mean(), cell.spread());
    }
}

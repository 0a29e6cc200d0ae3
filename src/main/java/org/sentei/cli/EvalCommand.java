package org.sentei.cli;

import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.function.BooleanSupplier;
import org.sentei.engine.Progress;
import org.sentei.engine.Sentei;
import org.sentei.engine.training.GraphEvaluation;
import org.sentei.format.NetworkFolder;
import org.sentei.kernel.Backend;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code sentei eval}: how good a model is. */
@Command(
        name = "eval",
        description = "Measures a model: perplexity of a decoder on text; of an encoder, retrieval (.tsv with query and"
                + " answer), rank correlation (.tsv with sentence1, sentence2 and score), and the cosine to the original; of a"
                + " graph network, accuracy on what train takes, and its time with and without what is zero.",
        footer = {"", "Example: what did pruning cost?", "  sentei eval llama-50/ --against llama/ --data held-out.txt"
        })
final class EvalCommand implements Callable<Integer> {
    private final Terminal terminal;
    private final BooleanSupplier cancelled;

    @Spec
    private CommandSpec command;

    @Mixin
    private ModelArgument model;

    @Option(names = "--against", paramLabel = "ORIGINAL", description = "Model to hold it against.")
    private String original;

    @Option(
            names = "--data",
            required = true,
            paramLabel = "FILE|DIR",
            description = "Data to measure on: .txt, .jsonl with a field text, .tsv, or a folder of texts.")
    private Path data;

    @Option(
            names = "--tokenizer",
            paramLabel = "FILE",
            description = "A tokenizer.json. Default: the one beside the model.")
    private Path tokenizer;

    @Option(
            names = "--length",
            paramLabel = "N",
            description = "Tokens of a perplexity window. Default: the smaller of 512 and the model's maximum.")
    private Integer length;

    @Option(
            names = "--attention",
            description = "Measure how far attention matrices are from the original's instead, layer by layer.")
    private boolean attention;

    @Mixin
    private ComputeOptions compute;

    @Mixin
    private CommonOptions common;

    EvalCommand(Terminal terminal, BooleanSupplier cancelled) {
        this.terminal = terminal;
        this.cancelled = cancelled;
    }

    record Document(String model, String data, List<Sentei.Metric> metrics) {}

    @Override
    public Integer call() {
        Backend.Options options = compute.options(common);
        if (length != null && length < 2) {
            throw new ParameterException(
                    command.commandLine(), "--length " + length + ": a window has at least 2 tokens");
        }
        compute.check();
        compute.warn(terminal);
        Path located = model.locate();
        Document document;
        try (ProgressBar progress = new ProgressBar(terminal, cancelled)) {
            document = new Document(located.toString(), data.toString(), metrics(located, options, progress));
        }
        if (common.json) {
            Json.print(terminal, document);
            return ExitCode.OK;
        }
        Table table =
                original == null ? new Table("lr", "metric", "value") : new Table("lrr", "metric", "value", "original");
        for (Sentei.Metric metric : document.metrics()) {
            if (original == null) {
                table.row(metric.metric(), metric.value());
            } else {
                table.row(metric.metric(), metric.value(), metric.original());
            }
        }
        table.print(terminal.out());
        return ExitCode.OK;
    }

    private List<Sentei.Metric> metrics(Path located, Backend.Options options, Progress progress) {
        Optional<Path> against = Optional.ofNullable(original).map(ModelArgument::locate);
        if (NetworkFolder.isOne(located)) {
            if (attention || length != null || tokenizer != null) {
                throw new ParameterException(
                        command.commandLine(),
                        "--attention, --length and --tokenizer are for models of text, and " + located
                                + " is a graph network: leave them out");
            }
            return GraphEvaluation.of(located, against, data, compute.backend, options, progress);
        }
        Sentei.EvaluationRequest request = new Sentei.EvaluationRequest(
                located,
                against,
                data,
                Optional.ofNullable(tokenizer),
                Optional.ofNullable(length),
                compute.backend,
                options);
        return attention ? Sentei.attentionErrors(request, progress) : Sentei.evaluate(request, progress);
    }
}

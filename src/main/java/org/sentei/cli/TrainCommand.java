package org.sentei.cli;

import java.math.BigDecimal;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.function.BooleanSupplier;
import java.util.function.Function;
import org.sentei.engine.Journaling;
import org.sentei.engine.Progress;
import org.sentei.engine.training.GraphTraining;
import org.sentei.engine.training.ImageRecipe;
import org.sentei.engine.training.ImageReport;
import org.sentei.engine.training.ImageTraining;
import org.sentei.engine.training.RateSweep;
import org.sentei.engine.training.RoundedRecipe;
import org.sentei.engine.training.RoundedReport;
import org.sentei.engine.training.RoundedTraining;
import org.sentei.engine.training.TrainingRecipe;
import org.sentei.engine.training.TrainingReport;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code sentei train}: trains a network to an exact budget, or one of images. */
@Command(
        name = "train",
        description = "Trains a graph network until exactly the share of its weights that the recipe asks for is zero:"
                + " model.safetensors, model.onnx, config.json, recipe.yaml, report.json and curves.svg in a new folder."
                + " Or trains a network of images, dense, as a start for the recipe easier: model.onnx, recipe.yaml,"
                + " report.json and curves.svg.",
        footer = {
            "",
            "Example: nine of ten weights go, magnitude pruning beside it for comparison",
            "  sentei train --recipe pmp-90 --data cora/ --out cora-90/",
            "Example: accuracy over rate, from three seeds",
            "  sentei train --recipe pmp-90 --data cora/ --out sweep/ --rates 0.8,0.9,0.95,0.99",
            "Example: a network of images to begin with",
            "  sentei train --recipe vgg-small --data /usr/share/datasets/fashion-mnist --out vgg/",
            "Example: the same for integers of 4 bits",
            "  sentei train --recipe qat-4 --model vgg/model.onnx --data /usr/share/datasets/fashion-mnist --out vgg-4/",
            "",
            "DATA is a graph, a folder with nodes.csv (node,label,split), edges.csv (source,target) and features.csv or",
            "features.csv.gz (node,feature); or sequences of skeletons, a CSV file of sequence,frame,joint,x,y,z,label",
            "or a folder of the SBU Interaction data; or the name synthetic-skeletons, for drawn ones. Built-in recipes:",
            "pmp-90, pmp-95, pmp-99 for graphs, pmp-skeletons-90, pmp-skeletons-95, pmp-skeletons-99 for skeletons.",
            "For vgg-small, resnet18-small, mobilenetv2-small, vit-small, qat-8 and qat-4 it is a folder of idx files (train-images-idx3-ubyte",
            "and t10k-images-idx3-ubyte, their labels beside them, gzipped or not), or of images: with the folders train and test,",
            "or with a folder for every class."
        })
final class TrainCommand implements Callable<Integer> {
    private static final List<Long> SEEDS = List.of(1L, 2L, 3L);

    private final Terminal terminal;
    private final BooleanSupplier cancelled;

    @Option(
            names = "--recipe",
            required = true,
            paramLabel = "R",
            description = "A recipe file (YAML or JSON), or the name of a built-in one.")
    private String recipe;

    @Spec
    private CommandSpec command;

    @Option(names = "--data", required = true, paramLabel = "DATA", description = "What to train on.")
    private Path data;

    @Option(
            names = "--model",
            paramLabel = "MODEL",
            description = "The ONNX file that recipes with bits train on: qat-8, qat-4.")
    private Path model;

    @Option(names = "--out", required = true, paramLabel = "DIR", description = "Folder to write; absent or empty.")
    private Path out;

    @Option(
            names = "--resume",
            description =
                    "Go on where an interrupted run into DIR stopped; start from the beginning where there is none.")
    private boolean resume;

    @Option(names = "--seed", paramLabel = "N", description = "Seed of the first weights. Default: the recipe's.")
    private Long seed;

    @Option(
            names = "--rates",
            split = ",",
            paramLabel = "R",
            description = "Train to each of these rates from each of --seeds, into folders of DIR with a table and a"
                    + " figure; what DIR has of them already is kept, and what was interrupted goes on.")
    private List<BigDecimal> rates;

    @Option(names = "--seeds", split = ",", paramLabel = "N", description = "Seeds of --rates. Default: 1,2,3.")
    private List<Long> seeds;

    @Mixin
    private ComputeOptions compute;

    @Mixin
    private CommonOptions common;

    TrainCommand(Terminal terminal, BooleanSupplier cancelled) {
        this.terminal = terminal;
        this.cancelled = cancelled;
    }

    @Override
    public Integer call() {
        compute.check();
        if (rates == null && seeds != null) {
            throw new ParameterException(
                    command.commandLine(), "--seeds belongs to --rates: give both, or --seed for one training");
        }
        if (rates != null && seed != null) {
            throw new ParameterException(
                    command.commandLine(), "--seed is for one training: --rates takes its seeds from --seeds");
        }
        if (RoundedRecipe.isOne(recipe)) {
            return rounded();
        }
        if (model != null) {
            throw new ParameterException(
                    command.commandLine(), "--model is for recipes with bits: this one trains a network from nothing");
        }
        if (ImageRecipe.isOne(recipe)) {
            return images();
        }
        TrainingRecipe asked = TrainingRecipe.load(recipe);
        TrainingRecipe settings = seed == null ? asked : asked.withSeed(seed);
        compute.warn(terminal);
        if (rates != null) {
            return sweep(asked);
        }
        TrainingReport report = trained(progress -> GraphTraining.run(
                settings, data, out, journaling(), compute.backend, compute.options(common), progress));
        if (isTold(report.warnings(), report.json())) {
            return ExitCode.OK;
        }
        terminal.out()
                .printf(
                        Locale.ROOT,
                        "%s: %,d of %,d weights are zero (asked for %s), %.1f s%n",
                        out,
                        report.zeros(),
                        report.prunable(),
                        report.requested(),
                        report.seconds());
        Table table = new Table("lrrr", "accuracy", "train", "valid", "test");
        table.row(
                report.budget(),
                report.accuracy().train(),
                report.accuracy().valid(),
                report.accuracy().test());
        if (report.baseline() != null) {
            TrainingReport.Accuracy other = report.baseline().accuracy();
            table.row("magnitude", other.train(), other.valid(), other.test());
        }
        table.print(terminal.out());
        terminal.out().println("report: " + out.resolve("report.json"));
        return ExitCode.OK;
    }

    private int rounded() {
        if (rates != null) {
            throw new ParameterException(
                    command.commandLine(), "--rates is for recipes with a budget: this one has bits");
        }
        if (model == null) {
            throw new ParameterException(
                    command.commandLine(), "--model is missing: name the ONNX file that is trained for few bits");
        }
        RoundedRecipe asked = RoundedRecipe.load(recipe);
        RoundedRecipe settings = seed == null ? asked : asked.withSeed(seed);
        RoundedReport report =
                trained(progress -> RoundedTraining.run(settings, model, data, out, journaling(), progress));
        if (isTold(report.warnings(), report.json())) {
            return ExitCode.OK;
        }
        Table table = new Table("lr", "numbers", "test");
        table.row("as they came", report.accuracy().before());
        table.row(report.bits().inner() + " bits", report.accuracy().rounded());
        table.row(report.bits().inner() + " bits, trained", report.accuracy().trained());
        table.print(terminal.out());
        terminal.out().println("report: " + out.resolve("report.json"));
        return ExitCode.OK;
    }

    private int images() {
        if (rates != null) {
            throw new ParameterException(
                    command.commandLine(),
                    "--rates is for recipes with a budget: a network of images is trained dense");
        }
        ImageRecipe asked = ImageRecipe.load(recipe);
        ImageRecipe settings = seed == null ? asked : asked.withSeed(seed);
        ImageReport report = trained(progress -> ImageTraining.run(settings, data, out, journaling(), progress));
        if (isTold(report.warnings(), report.json())) {
            return ExitCode.OK;
        }
        terminal.out()
                .printf(
                        Locale.ROOT,
                        "%s: %s of %,d parameters, %,d images, %.1f s%n",
                        out,
                        report.model().architecture(),
                        report.model().parameters(),
                        report.data().train(),
                        report.seconds());
        Table table = new Table("lrrr", "accuracy", "train", "valid", "test");
        table.row(
                report.model().architecture(),
                report.accuracy().train(),
                report.accuracy().valid(),
                report.accuracy().test());
        table.print(terminal.out());
        terminal.out().println("report: " + out.resolve("report.json"));
        return ExitCode.OK;
    }

    private int sweep(TrainingRecipe asked) {
        RateSweep.Result result = trained(progress -> RateSweep.run(
                asked,
                data,
                out,
                rates,
                seeds == null ? SEEDS : seeds,
                compute.backend,
                compute.options(common),
                progress));
        if (isTold(result.warnings(), result.json())) {
            return ExitCode.OK;
        }
        Table table = new Table("lrlrrr", "rate", "zeros", "budget", "valid", "test", "spread");
        for (RateSweep.Cell cell : result.cells()) {
            table.row(
                    cell.rate(),
                    cell.zeros(),
                    cell.budget(),
                    cell.valid().mean(),
                    cell.test().mean(),
                    cell.test().deviation());
        }
        table.print(terminal.out());
        terminal.out().println("figure: " + out.resolve("sweep.svg"));
        return ExitCode.OK;
    }

    private Journaling journaling() {
        return resume ? Journaling.RESUME : Journaling.ON;
    }

    private <T> T trained(Function<Progress, T> training) {
        ProgressBar progress = new ProgressBar(terminal, cancelled, "steps trained");
        try (progress) {
            return training.apply(progress);
        } catch (RuntimeException failure) {
            throw progress.withRemains(failure);
        }
    }

    /** Says warnings; whether the document is all else that is wanted. */
    private boolean isTold(List<String> warnings, String json) {
        warnings.forEach(warning -> terminal.err().println("warning: " + warning));
        if (common.json) {
            terminal.out().print(json);
        }
        return common.json;
    }
}

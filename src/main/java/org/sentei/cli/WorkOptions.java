package org.sentei.cli;

import java.nio.file.Path;
import java.util.Optional;
import org.sentei.engine.CompressionRequest;
import org.sentei.engine.recipe.Recipe;
import org.sentei.kernel.Backend;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** What {@code plan} and {@code compress} share: a model, a recipe, and the data they need. */
final class WorkOptions {
    @Spec(Spec.Target.MIXEE)
    private CommandSpec command;

    @Mixin
    private ModelArgument model;

    @Option(
            names = "--recipe",
            required = true,
            paramLabel = "R",
            description = "Recipe file (YAML or JSON), or the name of a built-in one (sentei recipes).")
    private String recipe;

    @Option(
            names = "--calibration",
            paramLabel = "FILE|DIR",
            description =
                    "What statistics come from: text (.txt, .jsonl with a field text, or a folder of them), or for"
                            + " models that take images a folder of .png files or an idx file.")
    private Path calibration;

    @Option(
            names = "--statistics",
            paramLabel = "FILE",
            description = "Statistics that sentei stats collected, instead of --calibration.")
    private Path statistics;

    @Option(
            names = "--data",
            paramLabel = "FILE|DIR",
            description =
                    "Data that quality is measured on, before and after; a recipe with a quality gate needs it. Images"
                            + " have labels in labels.csv, in the names of sub-folders, or in the idx file's twin.")
    private Path data;

    @Option(
            names = "--tokenizer",
            paramLabel = "FILE",
            description = "A tokenizer.json. Default: the one beside the model.")
    private Path tokenizer;

    @Option(names = "--seed", paramLabel = "N", description = "Seed of everything that draws, instead of the recipe's.")
    private Long seed;

    @Mixin
    private ComputeOptions compute;

    /** Finds the backend, then the recipe, then the model: the order in which mistakes are reported. */
    CompressionRequest request(CommonOptions common) {
        Backend.Options options = compute.options(common);
        if (seed != null && seed < 0) {
            throw new ParameterException(command.commandLine(), "--seed " + seed + ": give 0 or more");
        }
        compute.check();
        Recipe loaded = RecipeArgument.load(recipe);
        return new CompressionRequest(
                model.locate(),
                seed == null ? loaded : loaded.withSeed(seed),
                Optional.ofNullable(calibration),
                Optional.ofNullable(statistics),
                Optional.ofNullable(data),
                Optional.ofNullable(tokenizer),
                compute.backend,
                options);
    }
}

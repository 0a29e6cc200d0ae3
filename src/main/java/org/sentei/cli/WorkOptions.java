package org.sentei.cli;

import java.nio.file.Path;
import java.util.Optional;
import org.sentei.engine.CompressionRequest;
import org.sentei.engine.Plan;
import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.Recipes;
import org.sentei.kernel.Backend;
import org.sentei.kernel.DeviceException;
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
            description = "Text that statistics come from: .txt, .jsonl with a field text, or a folder of them.")
    private Path calibration;

    @Option(
            names = "--data",
            paramLabel = "FILE|DIR",
            description = "Data that quality is measured on, before and after; a recipe with a quality gate needs it.")
    private Path data;

    @Option(
            names = "--tokenizer",
            paramLabel = "FILE",
            description = "A tokenizer.json. Default: the one beside the model.")
    private Path tokenizer;

    @Option(names = "--seed", paramLabel = "N", description = "Seed of everything that draws, instead of the recipe's.")
    private Long seed;

    @Option(
            names = "--device-memory",
            paramLabel = "BYTES",
            description = "Refuse to start when more device memory than this would be needed.")
    private Long deviceMemory;

    @Mixin
    private ComputeOptions compute;

    /** Finds the backend, then the recipe, then the model: the order in which mistakes are reported. */
    CompressionRequest request(CommonOptions common) {
        Backend.Options options = compute.options(common);
        if (seed != null && seed < 0) {
            throw new ParameterException(command.commandLine(), "--seed " + seed + ": give 0 or more");
        }
        if (deviceMemory != null && deviceMemory < 1) {
            throw new ParameterException(
                    command.commandLine(), "--device-memory " + deviceMemory + ": give a number of bytes above 0");
        }
        compute.check();
        Recipe loaded = Recipes.load(recipe);
        return new CompressionRequest(
                model.locate(),
                seed == null ? loaded : loaded.withSeed(seed),
                Optional.ofNullable(calibration),
                Optional.ofNullable(data),
                Optional.ofNullable(tokenizer),
                compute.backend,
                options);
    }

    /**
     * Holds a plan against the budget of memory.
     *
     * @throws DeviceException OUT_OF_MEMORY when it needs more
     */
    void check(Plan plan) {
        long needed = plan.memoryBytes();
        if (deviceMemory != null && needed > deviceMemory) {
            throw new DeviceException(
                    compute.backend,
                    "planning",
                    0,
                    "the run needs about " + needed + " bytes of device memory, --device-memory allows " + deviceMemory
                            + "; allow more, or calibrate on shorter windows",
                    DeviceException.Kind.OUT_OF_MEMORY);
        }
    }
}

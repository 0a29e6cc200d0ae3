package org.sentei.cli;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.function.BooleanSupplier;
import org.sentei.engine.CompressionRequest;
import org.sentei.engine.Journaling;
import org.sentei.engine.RunException;
import org.sentei.engine.recipe.Recipes;
import org.sentei.format.ModelZoo;
import org.sentei.kernel.Backend;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code sentei demo}: a real model, pruned and judged, with nothing to prepare. */
@Command(
        name = "demo",
        description = "Prunes half of the weights of a real sentence encoder (all-MiniLM-L6-v2) with STADE, measures it"
                + " before and after on 600 WordNet nouns, and writes model and report. Takes about a minute or two.",
        footer = {"", "Example: write somewhere else", "  sentei demo --out pruned"})
final class DemoCommand implements Callable<Integer> {
    private static final String MODEL = "all-minilm-l6-v2";
    private static final String RECIPE = "stade-50";
    private static final String FOLDER = "sentei-demo";

    private final Terminal terminal;
    private final BooleanSupplier cancelled;

    @Option(
            names = "--out",
            paramLabel = "DIR",
            description = "Folder to write; absent or empty. Default: " + FOLDER + ", or " + FOLDER + "-2, -3, ...")
    private Path out;

    @Mixin
    private ComputeOptions compute;

    @Mixin
    private CommonOptions common;

    DemoCommand(Terminal terminal, BooleanSupplier cancelled) {
        this.terminal = terminal;
        this.cancelled = cancelled;
    }

    @Override
    public Integer call() {
        Backend.Options options = compute.options(common);
        compute.check();
        Path model = ModelZoo.configured().locate(MODEL);
        Path folder = out == null ? free() : out;
        terminal.err().println("pruning " + MODEL + " with recipe " + RECIPE + " into " + folder);
        CompressionRequest request = new CompressionRequest(
                model,
                Recipes.load(RECIPE),
                Optional.of(bring("glosses.txt", model)),
                Optional.of(bring("nouns.tsv", model)),
                Optional.empty(),
                compute.backend,
                options);
        CompressCommand.run(request, plan -> {}, folder, Journaling.OFF, common.json, terminal, cancelled);
        if (!common.json) {
            terminal.out().println("next:   sentei inspect " + folder.resolve(model.getFileName()));
            terminal.out().println("        sentei recipes, and sentei compress --help for models of your own");
        }
        return ExitCode.OK;
    }

    private static Path free() {
        Path folder = Path.of(FOLDER);
        for (int i = 2; Files.exists(folder); i++) {
            folder = Path.of(FOLDER + "-" + i);
        }
        return folder;
    }

    /** Puts a resource beside the model, where later commands can use it too. */
    private static Path bring(String name, Path model) {
        Path target = model.resolveSibling(name);
        try (InputStream resource = DemoCommand.class.getResourceAsStream("demo/" + name)) {
            if (resource == null) {
                throw new IllegalStateException("resource demo/" + name + " is missing from the jar");
            }
            Path whole = Files.createTempFile(model.getParent(), name, ".part");
            try {
                Files.copy(resource, whole, StandardCopyOption.REPLACE_EXISTING);
                Files.move(whole, target, StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
            } finally {
                Files.deleteIfExists(whole);
            }
            return target;
        } catch (IOException failed) {
            throw new RunException(
                    "the demo's data cannot be written to " + target + ": " + failed.getMessage()
                            + "; check space and permissions",
                    failed);
        }
    }
}

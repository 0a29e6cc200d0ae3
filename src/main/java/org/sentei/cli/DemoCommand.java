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
                + " before and after on 600 WordNet nouns, and writes model and report. Takes about a minute or two. In a"
                + " pack, which is too small for that model, a language model trained on Jane Austen takes its place.",
        footer = {"", "Example: write somewhere else", "  sentei demo --out pruned"})
final class DemoCommand implements Callable<Integer> {
    private static final String MODEL = "all-minilm-l6-v2";
    private static final String PACKED = "austen-llama";
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
        Subject subject = subject(ModelZoo.configured());
        Path folder = out == null ? free() : out;
        terminal.err().println("pruning " + subject.name() + " with recipe " + RECIPE + " into " + folder);
        CompressionRequest request = new CompressionRequest(
                subject.model(),
                Recipes.load(RECIPE),
                Optional.of(subject.calibration()),
                Optional.empty(),
                Optional.of(subject.data()),
                Optional.empty(),
                compute.backend,
                options);
        CompressCommand.run(request, folder, Journaling.OFF, common.json, terminal, cancelled);
        if (!common.json) {
            Path written = Files.isDirectory(subject.model())
                    ? folder
                    : folder.resolve(subject.model().getFileName());
            terminal.out().println("next:   sentei inspect " + written);
            terminal.out().println("        sentei recipes, and sentei compress --help for models of your own");
        }
        return ExitCode.OK;
    }

    private record Subject(String name, Path model, Path calibration, Path data) {}

    /** The encoder where it is or can be asked for; in a pack without it, the model that the pack carries with its texts. */
    private Subject subject(ModelZoo zoo) {
        Path packed = zoo.folder().resolve(PACKED);
        if (!zoo.has(ModelZoo.find(MODEL).orElseThrow()) && Files.isDirectory(packed)) {
            terminal.err()
                    .println(MODEL + " is not in " + zoo.folder() + " (sentei models says how to fetch it); using "
                            + PACKED);
            return new Subject(PACKED, packed, packed.resolve("calibration.txt"), packed.resolve("heldout.txt"));
        }
        Path model = zoo.locate(MODEL);
        return new Subject(MODEL, model, bring("glosses.txt", model), bring("nouns.tsv", model));
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

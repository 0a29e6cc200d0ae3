package org.sentei.cli;

import java.util.List;
import java.util.concurrent.Callable;
import org.sentei.format.ModelZoo;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

/** {@code sentei models}: names that stand for real models. */
@Command(
        name = "models",
        description = "Lists the models that have a name: wherever a command takes MODEL, the name will do.",
        footer = {"", "Example: list them, then look into one", "  sentei models", "  sentei inspect all-minilm-l6-v2"})
final class ModelsCommand implements Callable<Integer> {
    private final Terminal terminal;

    @Mixin
    private CommonOptions common;

    ModelsCommand(Terminal terminal) {
        this.terminal = terminal;
    }

    record Listing(List<Entry> models) {
        /** @param fetch what to run where {@code present} is false */
        record Entry(String name, String description, String licence, String artifact, boolean present, String fetch) {}
    }

    @Override
    public Integer call() {
        ModelZoo zoo = ModelZoo.configured();
        List<Listing.Entry> entries = ModelZoo.models().stream()
                .map(model -> new Listing.Entry(
                        model.name(),
                        model.description(),
                        model.licence(),
                        model.artifact(),
                        zoo.has(model),
                        zoo.fetchCommand(model)))
                .toList();
        if (common.json) {
            Json.print(terminal, new Listing(entries));
            return ExitCode.OK;
        }
        for (Listing.Entry entry : entries) {
            terminal.out().printf("%-18s %s, %s%n", entry.name(), entry.description(), entry.licence());
            if (!entry.present()) {
                terminal.out().printf("%-18s not here yet; fetch it with: %s%n", "", entry.fetch());
            }
        }
        return ExitCode.OK;
    }
}

package org.sentei.cli;

import java.util.List;
import java.util.concurrent.Callable;
import java.util.stream.Stream;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.training.ImageRecipe;
import org.sentei.engine.training.RoundedRecipe;
import org.sentei.engine.training.TrainingRecipe;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Parameters;

/** {@code sentei recipes}: the built-in recipes, or one printed. */
@Command(
        name = "recipes",
        description = "Lists the built-in recipes, or prints one.",
        footer = {
            "",
            "Example: take a built-in recipe as the start of your own",
            "  sentei recipes stade-50 > mine.yaml"
        })
final class RecipesCommand implements Callable<Integer> {
    private final Terminal terminal;

    @Mixin
    private CommonOptions common;

    @Parameters(
            index = "0",
            arity = "0..1",
            paramLabel = "NAME",
            description = "Recipe to print, or a recipe file to check.")
    private String name;

    RecipesCommand(Terminal terminal) {
        this.terminal = terminal;
    }

    record Listing(List<Entry> recipes) {
        record Entry(String name, String description, String text) {}
    }

    @Override
    public Integer call() {
        if (common.json) {
            Json.print(
                    terminal,
                    name == null
                            ? new Listing(names().map(RecipesCommand::entry).toList())
                            : entry(name));
        } else if (name == null) {
            names().map(RecipesCommand::entry)
                    .forEach(entry -> terminal.out().printf("%-18s %s%n", entry.name(), entry.description()));
        } else {
            terminal.out().print(text(name));
        }
        return ExitCode.OK;
    }

    private static Stream<String> names() {
        return Stream.of(Recipes.builtIn(), TrainingRecipe.builtIn(), ImageRecipe.builtIn(), RoundedRecipe.builtIn())
                .flatMap(List::stream);
    }

    private static String text(String name) {
        if (RoundedRecipe.isOne(name)) {
            return RoundedRecipe.load(name).text();
        }
        if (ImageRecipe.isOne(name)) {
            return ImageRecipe.load(name).text();
        }
        return TrainingRecipe.builtIn().contains(name)
                ? TrainingRecipe.load(name).text()
                : Recipes.load(name).text();
    }

    private static Listing.Entry entry(String name) {
        String text = text(name);
        String first = text.lines().findFirst().orElse("");
        return new Listing.Entry(
                name, first.startsWith("#") ? first.substring(1).strip() : "", text);
    }
}

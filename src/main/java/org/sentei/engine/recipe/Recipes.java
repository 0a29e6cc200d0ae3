package org.sentei.engine.recipe;

import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;

/** Recipes by name or from files. */
public final class Recipes {
    private static final List<String> BUILT_IN = List.of(
            "magnitude-50",
            "magnitude-2of4",
            "wanda-50",
            "wanda-2of4",
            "stade-50",
            "stade-2of4",
            "stade-4of8",
            "stade-w-50",
            "sparsegpt-50",
            "attention-50",
            "attention-2of4",
            "easier-one-shot",
            "int8",
            "magnitude-30-int8",
            "easier");

    private Recipes() {}

    /** Names of the recipes that Sentei brings along. */
    public static List<String> builtIn() {
        return BUILT_IN;
    }

    /**
     * Reads a built-in recipe, or a YAML or JSON file.
     *
     * @param nameOrPath a name of {@link #builtIn()}, which wins over a file of this name, or a path; {@code .json} is read
     *     as JSON, everything else as YAML
     * @throws RecipeException when there is neither, or the recipe is not valid
     */
    public static Recipe load(String nameOrPath) {
        if (BUILT_IN.contains(nameOrPath)) {
            return RecipeReader.read(
                    "recipe " + nameOrPath, RecipeText.builtIn(Recipes.class, nameOrPath + ".yaml"), false);
        }
        Path path;
        try {
            path = Path.of(nameOrPath);
        } catch (InvalidPathException invalid) {
            throw unknown(nameOrPath);
        }
        if (!Files.isRegularFile(path)) {
            throw unknown(nameOrPath);
        }
        return RecipeReader.read(
                nameOrPath,
                RecipeText.of(path, RecipeReader.MAX_CHARACTERS),
                nameOrPath.toLowerCase(Locale.ROOT).endsWith(".json"));
    }

    /** Reads a recipe from YAML text. */
    public static Recipe parse(String yaml) {
        return RecipeReader.read("recipe", yaml, false);
    }

    private static RecipeException unknown(String nameOrPath) {
        return new RecipeException("recipe " + nameOrPath + ": is neither a file nor a built-in recipe; the nearest is "
                + Nearest.to(nameOrPath, BUILT_IN) + " (sentei recipes lists all)");
    }
}

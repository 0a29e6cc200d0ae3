package org.sentei.cli;

import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.training.ImageRecipe;
import org.sentei.engine.training.RoundedRecipe;
import org.sentei.engine.training.TrainingRecipe;

/** A recipe as commands that compress take it. */
final class RecipeArgument {
    private RecipeArgument() {}

    /**
     * Reads a recipe by name or from a file.
     *
     * @throws RecipeException when there is none, when it is not valid, or when it is one of {@code sentei train}
     */
    static Recipe load(String nameOrPath) {
        if (RoundedRecipe.builtIn().contains(nameOrPath)) {
            throw new RecipeException("recipe " + nameOrPath + ": it trains; use sentei train --recipe " + nameOrPath
                    + " --model MODEL --data DIR --out DIR");
        }
        if (TrainingRecipe.builtIn().contains(nameOrPath)
                || ImageRecipe.builtIn().contains(nameOrPath)) {
            throw new RecipeException(
                    "recipe " + nameOrPath + ": it trains a network and takes no model; use sentei train" + " --recipe "
                            + nameOrPath + " --data DIR --out DIR");
        }
        return Recipes.load(nameOrPath);
    }
}

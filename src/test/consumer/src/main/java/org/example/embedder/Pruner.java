package org.example.embedder;

import java.nio.file.Path;
import org.sentei.engine.CompressionRequest;
import org.sentei.engine.Plan;
import org.sentei.engine.Progress;
import org.sentei.engine.Sentei;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.report.Report;

/** The smallest program that embeds Sentei: model, recipe in YAML, output folder, and text where the recipe needs it. */
public final class Pruner {
    private Pruner() {}

    /** Compresses a model and prints how many weights are zero. */
    public static void main(String[] args) {
        CompressionRequest request = CompressionRequest.of(Path.of(args[0]), Recipes.parse(args[1]));
        if (args.length > 3) {
            request = request.withCalibration(Path.of(args[3]));
        }
        try (Plan plan = Sentei.plan(request)) {
            Report report = plan.run(Path.of(args[2]), Progress.NONE);
            System.out.println(report.totals().zeros() + " zeros, module "
                    + Plan.class.getModule().getName());
        }
    }
}

import java.nio.file.Path;
import org.sentei.engine.CompressionRequest;
import org.sentei.engine.Plan;
import org.sentei.engine.Progress;
import org.sentei.engine.Sentei;
import org.sentei.engine.recipe.Recipes;

/**
 * Our side of compress_minilm.sh without the start of the JVM: plan and run as an embedding program calls them. Arguments:
 * model, recipe, text, output folder. Prints the seconds.
 */
final class CompressMiniLmPeer {
    public static void main(String[] args) {
        long start = System.nanoTime();
        CompressionRequest request =
                CompressionRequest.of(Path.of(args[0]), Recipes.load(args[1])).withCalibration(Path.of(args[2]));
        try (Plan plan = Sentei.plan(request)) {
            plan.run(Path.of(args[3]), Progress.NONE);
        }
        System.out.println((System.nanoTime() - start) / 1e9);
    }
}

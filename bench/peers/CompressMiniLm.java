import java.nio.file.Path;
import org.sentei.engine.CompressionRequest;
import org.sentei.engine.Plan;
import org.sentei.engine.Progress;
import org.sentei.engine.Sentei;
import org.sentei.engine.recipe.Recipes;

/**
 * Our side of compress_minilm.sh without the start of the JVM: plan and run as an embedding program calls them, some times one
 * after the other as a service does. Arguments: model, recipe, text, output folder, times. Prints the seconds of the first and
 * of the last as JSON.
 */
final class CompressMiniLmPeer {
    public static void main(String[] args) {
        int times = Integer.parseInt(args[4]);
        double[] seconds = new double[times];
        for (int i = 0; i < times; i++) {
            long start = System.nanoTime();
            CompressionRequest request = CompressionRequest.of(Path.of(args[0]), Recipes.load(args[1]))
                    .withCalibration(Path.of(args[2]));
            try (Plan plan = Sentei.plan(request)) {
                plan.run(Path.of(args[3] + i), Progress.NONE);
            }
            seconds[i] = (System.nanoTime() - start) / 1e9;
        }
        System.out.println("{\"inside\": " + seconds[0] + ", \"again\": " + seconds[times - 1] + "}");
    }
}

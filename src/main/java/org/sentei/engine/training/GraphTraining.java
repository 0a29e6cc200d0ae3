package org.sentei.engine.training;

import java.io.IOException;
import java.nio.file.Path;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Function;
import org.sentei.engine.Fingerprint;
import org.sentei.engine.Journaling;
import org.sentei.engine.Progress;
import org.sentei.engine.RunException;
import org.sentei.engine.Stopwatch;
import org.sentei.engine.Version;
import org.sentei.format.FormatException;
import org.sentei.format.NetworkFolder;
import org.sentei.format.OutputFolder;
import org.sentei.format.PendingFile;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.DeviceException;
import org.sentei.model.GraphNetwork;
import org.sentei.model.LabelledExamples.Split;
import org.sentei.train.Differentiable;
import org.sentei.train.Torch;
import org.sentei.train.TrainingException;

/** {@code sentei train}: from a recipe and a folder of data to a folder with a network. */
public final class GraphTraining {
    /** Share of latent weights out of the histogram's reach from which the report warns. */
    private static final double OUTSIDE = 0.01;

    private final TrainingRecipe recipe;
    private final TrainingData data;
    private final Differentiable examples;
    private final Backend device;
    private final Progress progress;

    private GraphTraining(
            TrainingRecipe recipe, TrainingData data, Differentiable examples, Backend device, Progress progress) {
        this.recipe = recipe;
        this.data = data;
        this.examples = examples;
        this.device = device;
        this.progress = progress;
    }

    /**
     * Trains a network on a labelled graph or on sequences of skeletons.
     *
     * @param source what {@link org.sentei.format.GraphFolder}, {@link org.sentei.format.SkeletonTable} or
     *     {@link org.sentei.format.SbuFolder} reads, or {@link org.sentei.format.SyntheticSkeletons#NAME}
     * @param out absent or empty; gets {@code model.safetensors}, {@code config.json}, {@code recipe.yaml} and
     *     {@code report.json}
     * @param journaling whether a run that ends early can be resumed; the learning rate may be another then
     * @throws DeviceException when PyTorch or the backend is not available
     * @throws FormatException when the data are missing or wrong, the output folder is not free, or what is to be resumed was
     *     begun with something else
     * @throws RunException when the loss is not finite or the disk is full
     */
    public static TrainingReport run(
            TrainingRecipe recipe,
            Path source,
            Path out,
            Journaling journaling,
            String backend,
            Backend.Options options,
            Progress progress) {
        Stopwatch watch = Stopwatch.start();
        try {
            Torch.load();
        } catch (TrainingException missing) {
            throw new DeviceException(
                    "pytorch", "training", missing.getMessage(), DeviceException.Kind.UNSUPPORTED, missing);
        }
        TrainingData data = TrainingData.read(source);
        try (Differentiable examples = data.with(recipe.network());
                Backend device = Backends.find(backend).open(options);
                OutputFolder output =
                        journaling == Journaling.RESUME ? OutputFolder.resume(out) : OutputFolder.create(out);
                TrainingJournal journal = new TrainingJournal(
                        output,
                        fingerprint(recipe, data, device),
                        recipe.training().learningRate(),
                        watch,
                        progress)) {
            if (journaling == Journaling.RESUME) {
                progress.resumed(journal.steps());
            }
            GraphTraining training = new GraphTraining(recipe, data, examples, device, progress);
            Function<PmpSettings.Budget, PmpTraining.Checkpoints> checkpoints =
                    journaling == Journaling.OFF ? budget -> PmpTraining.Checkpoints.NONE : journal::of;
            PmpTraining.Trained trained = training.train(recipe.settings().budget(), checkpoints);
            TrainingReport.Baseline baseline = null;
            if (recipe.baseline() && recipe.settings().budget() != PmpSettings.Budget.MAGNITUDE) {
                PmpTraining.Trained other = training.train(PmpSettings.Budget.MAGNITUDE, checkpoints);
                baseline = new TrainingReport.Baseline(
                        training.zeros(other.parameters()), training.accuracy(other.parameters()));
            }
            TrainingReport report = training.report(trained, baseline, journal);
            write(output, examples.network(), trained.parameters(), recipe, report);
            return report;
        } catch (IOException failed) {
            throw new RunException(
                    "output " + out + " cannot be written (" + failed + "); free space, or give another folder",
                    failed);
        }
    }

    /** All that the bytes of a result depend on, but for the learning rate, which may be lowered on the way. */
    private static Fingerprint fingerprint(TrainingRecipe recipe, TrainingData data, Backend device) {
        Map<String, String> fields = new HashMap<>(Fingerprint.fields(device.info()));
        TrainingRecipe.Training training = recipe.training();
        fields.put("sentei", Version.current());
        fields.put("recipe.seed", Long.toString(recipe.seed()));
        fields.put("recipe.network", recipe.network().toString());
        fields.put("recipe.training.steps", Integer.toString(training.steps()));
        fields.put("recipe.training.gain", Double.toString(training.gain()));
        fields.put("recipe.training.dropout", Double.toString(training.dropout()));
        fields.put("recipe.training.decay", Double.toString(training.decay()));
        fields.put("recipe.steps", recipe.steps().toString());
        fields.put("recipe.storage", recipe.storage().toString());
        fields.put("data", data.sha256());
        return new Fingerprint(fields);
    }

    private PmpTraining.Trained train(
            PmpSettings.Budget budget, Function<PmpSettings.Budget, PmpTraining.Checkpoints> checkpoints) {
        return new PmpTraining(examples, data.examples().members(Split.TRAIN), recipe.settings(budget))
                .run(device, recipe.seed(), checkpoints.apply(budget), progress);
    }

    private TrainingReport report(
            PmpTraining.Trained trained, TrainingReport.Baseline baseline, TrainingJournal journal) {
        List<String> warnings = new ArrayList<>(journal.warnings());
        double outside = trained.curve().stream()
                .mapToDouble(TrainingReport.Point::outside)
                .max()
                .orElse(0);
        if (outside > OUTSIDE) {
            warnings.add(String.format(
                    Locale.ROOT,
                    "%.1f %% of the latent weights lay out of the histogram's reach, where nothing pulls at them;"
                            + " use budget prior-ot",
                    100 * outside));
        }
        return new TrainingReport(
                Version.current(),
                journal.watch().started().truncatedTo(ChronoUnit.SECONDS).toString(),
                Math.round(1000 * journal.watch().seconds()) / 1000.0,
                recipe.seed(),
                new TrainingReport.Model(
                        examples.network().architecture(),
                        examples.network().parameters().stream()
                                .mapToLong(GraphNetwork.Parameter::count)
                                .sum()),
                data.described(),
                device.info().backend(),
                recipe.settings().budget().label(),
                recipe.settings().rate().toPlainString(),
                trained.mask().count(),
                zeros(trained.parameters()),
                examples.network().parameters().stream()
                        .filter(GraphNetwork.Parameter::prunable)
                        .mapToLong(GraphNetwork.Parameter::count)
                        .sum(),
                accuracy(trained.parameters()),
                trained.curve(),
                baseline,
                warnings);
    }

    private static void write(
            OutputFolder output,
            GraphNetwork network,
            List<float[]> parameters,
            TrainingRecipe recipe,
            TrainingReport report)
            throws IOException {
        NetworkFolder.write(output.path(), network, parameters, recipe.storage());
        PendingFile.write(output.path().resolve("recipe.yaml"), recipe.text());
        PendingFile.write(output.path().resolve("report.json"), report.json());
        output.commit();
    }

    private long zeros(List<float[]> parameters) {
        long zeros = 0;
        for (int i = 0; i < parameters.size(); i++) {
            if (examples.network().parameters().get(i).prunable()) {
                for (float weight : parameters.get(i)) {
                    zeros += weight == 0 ? 1 : 0;
                }
            }
        }
        return zeros;
    }

    private TrainingReport.Accuracy accuracy(List<float[]> parameters) {
        return new TrainingReport.Accuracy(
                accuracy(parameters, Split.TRAIN), accuracy(parameters, Split.VALID), accuracy(parameters, Split.TEST));
    }

    private double accuracy(List<float[]> parameters, Split split) {
        int[] chosen = data.examples().members(split);
        if (chosen.length == 0) {
            return 0;
        }
        float[] scores = examples.scores(parameters, chosen);
        int classes = scores.length / chosen.length;
        int right = 0;
        for (int i = 0; i < chosen.length; i++) {
            int best = 0;
            for (int c = 0; c < classes; c++) {
                if (!Float.isFinite(scores[i * classes + c])) {
                    throw new RunException("node " + chosen[i] + " has a score of " + scores[i * classes + c]
                            + " after the last step; give a smaller learning rate");
                }
                best = scores[i * classes + c] > scores[i * classes + best] ? c : best;
            }
            right += best == data.examples().label(chosen[i]) ? 1 : 0;
        }
        return (double) right / chosen.length;
    }
}

package org.sentei.engine.training;

import java.io.IOException;
import java.math.BigDecimal;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
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
import org.sentei.method.Connections;
import org.sentei.model.GraphNetwork;
import org.sentei.model.LabelledExamples.Split;
import org.sentei.train.Differentiable;
import org.sentei.train.Torch;
import org.sentei.train.TrainingException;

/** {@code sentei train}: from a recipe and a folder of data to a folder with a network. */
public final class GraphTraining {
    /** Share of latent weights out of the histogram's reach from which the report warns. */
    private static final double OUTSIDE = 0.01;
    /** Distance of the prior's rate from the recipe's from which the report warns. */
    private static final double MISSED = 0.1;
    /** Steps from the least rate to the recipe's own at which latent weights for many are judged. */
    private static final int SERVED = 4;

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
     * @param out absent or empty; gets {@code model.safetensors}, {@code config.json}, {@code recipe.yaml}, {@code report.json},
     *     and {@code latents/} for {@link #cut} where the recipe has a {@code from_rate} below its rate
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
        requireTorch();
        TrainingData data = TrainingData.read(source);
        try (Differentiable examples = data.with(recipe.network());
                Backend device = Backends.find(backend).open(options);
                OutputFolder output = journaling.open(out)) {
            TrainingJournal journal = new TrainingJournal(
                    output, fingerprint(recipe, data, device), recipe.training().learningRate(), watch, progress);
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
                        training.examples.network().zeros(other.parameters()),
                        training.dangling(other),
                        training.accuracy(other.parameters()),
                        other.curve());
            }
            Optional<LatentNetwork> latents = recipe.settings().manyRates()
                    ? Optional.of(LatentNetwork.of(
                            examples.network(), trained.latents(), recipe.settings(), recipe.storage()))
                    : Optional.empty();
            List<TrainingReport.Served> served = latents.map(training::served).orElse(List.of());
            TrainingReport report = training.report(trained, served, baseline, journal);
            NetworkFolder.write(output.path(), examples.network(), trained.parameters(), recipe.storage());
            NetworkFolder.export(output.path(), examples.network(), trained.parameters());
            if (latents.isPresent()) {
                latents.get().write(output.path());
            }
            finish(output, recipe.text(), report.json(), report.curves());
            return report;
        } catch (IOException failed) {
            throw unwritable(out, failed);
        }
    }

    /** Writes what every training leaves beside its network, and gives the folder its name. */
    static void finish(OutputFolder output, String recipe, String report, String curves) throws IOException {
        PendingFile.write(output.path().resolve("recipe.yaml"), recipe);
        PendingFile.write(output.path().resolve("report.json"), report);
        PendingFile.write(output.path().resolve("curves.svg"), curves);
        output.commit();
    }

    static RunException unwritable(Path out, IOException failed) {
        return new RunException(
                "output " + out + " cannot be written (" + failed + "); free space, or give another folder", failed);
    }

    /** Refuses to begin where nothing can be trained. */
    static void requireTorch() {
        try {
            Torch.load();
        } catch (TrainingException missing) {
            throw new DeviceException(
                    "pytorch", "training", missing.getMessage(), DeviceException.Kind.UNSUPPORTED, missing);
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
        return new PmpTraining(examples, data.examples().members(Split.TRAIN), recipe.settings(budget), this::valid)
                .run(device, recipe.seed(), checkpoints.apply(budget), progress);
    }

    private TrainingReport report(
            PmpTraining.Trained trained,
            List<TrainingReport.Served> served,
            TrainingReport.Baseline baseline,
            TrainingJournal journal) {
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
        warnings.addAll(missed(trained.curve(), recipe.settings()));
        return new TrainingReport(
                Version.current(),
                journal.watch().beginning(),
                journal.watch().rounded(),
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
                examples.network().zeros(trained.parameters()),
                dangling(trained),
                examples.network().parameters().stream()
                        .filter(GraphNetwork.Parameter::prunable)
                        .mapToLong(GraphNetwork.Parameter::count)
                        .sum(),
                accuracy(trained.parameters()),
                served,
                trained.curve(),
                baseline,
                warnings);
    }

    /** Whether what draws the latent weights to the rate came near it before the mask made it exact. */
    private static List<String> missed(List<TrainingReport.Point> curve, PmpSettings settings) {
        String drawing = switch (settings.budget()) {
            case PRIOR_KL, PRIOR_OT -> "the prior";
            case BUDGET_LOSS -> "the budget's loss";
            case DYNAMIC_QUANTILE, MAGNITUDE -> null;
        };
        if (drawing == null || settings.manyRates()) {
            return List.of();
        }
        double asked = settings.rate().doubleValue();
        return curve.stream()
                .filter(point -> point.step() < settings.joint())
                .reduce((earlier, later) -> later)
                .filter(last -> !(Math.abs(last.rate() - asked) <= MISSED))
                .map(last -> String.format(
                        Locale.ROOT,
                        "%s did not reach rate %s: %.1f %% of the latent weights lay below the threshold when the"
                                + " mask was fixed, which is exact; raise strength, or use budget dynamic-quantile",
                        drawing,
                        settings.rate().toPlainString(),
                        100 * last.rate()))
                .stream()
                .toList();
    }

    /** The network at five rates from the least to the recipe's own. */
    private List<TrainingReport.Served> served(LatentNetwork latents) {
        PmpSettings settings = recipe.settings();
        BigDecimal span = settings.rate().subtract(settings.fromRate());
        List<TrainingReport.Served> served = new ArrayList<>();
        for (int i = 0; i <= SERVED; i++) {
            BigDecimal rate = span.multiply(BigDecimal.valueOf(i))
                    .divide(BigDecimal.valueOf(SERVED))
                    .add(settings.fromRate());
            List<float[]> parameters = latents.at(rate, device);
            served.add(new TrainingReport.Served(
                    rate.stripTrailingZeros().toPlainString(),
                    examples.network().zeros(parameters),
                    accuracy(parameters)));
        }
        return served;
    }

    /**
     * Writes the network of another rate from latent weights that were trained for more than one.
     *
     * @param trained the folder of a training whose recipe has a {@code from_rate} below its rate
     * @param rate share of the prunable weights that are 0, from 0 to below 1
     * @param out absent or empty; gets {@code model.safetensors} and {@code config.json}
     * @throws DeviceException when the backend is not available
     * @throws FormatException when the folder is no such, or damaged
     * @throws org.sentei.engine.recipe.RecipeException when there is no such rate
     */
    public static Cut cut(Path trained, BigDecimal rate, Path out, String backend, Backend.Options options) {
        PmpSettings.rate("rate", rate);
        try (Backend device = Backends.find(backend).open(options);
                OutputFolder output = OutputFolder.create(out)) {
            LatentNetwork latents = LatentNetwork.read(trained);
            List<float[]> parameters = latents.at(rate, device);
            NetworkFolder.write(output.path(), latents.network(), parameters, latents.storage());
            NetworkFolder.export(output.path(), latents.network(), parameters);
            output.commit();
            return new Cut(latents.network().zeros(parameters), latents.prunable(), latents.warnings(rate));
        } catch (IOException failed) {
            throw unwritable(out, failed);
        }
    }

    /**
     * What came of {@link #cut}.
     *
     * @param zeros prunable weights that are 0
     * @param prunable weights that could have gone
     */
    public record Cut(long zeros, long prunable, List<String> warnings) {
        /** Copies the list. */
        public Cut {
            warnings = List.copyOf(warnings);
        }
    }

    private long dangling(PmpTraining.Trained trained) {
        return new Connections(examples.network()).dangling(trained.mask());
    }

    private TrainingReport.Accuracy accuracy(List<float[]> parameters) {
        return new TrainingReport.Accuracy(
                accuracy(parameters, Split.TRAIN), accuracy(parameters, Split.VALID), accuracy(parameters, Split.TEST));
    }

    private Double valid(List<float[]> parameters) {
        return data.examples().members(Split.VALID).length == 0 ? null : accuracy(parameters, Split.VALID);
    }

    private double accuracy(List<float[]> parameters, Split split) {
        int[] chosen = data.examples().members(split);
        if (chosen.length == 0) {
            return 0;
        }
        return Scores.accuracy(
                data.examples(),
                chosen,
                examples.scores(parameters, chosen),
                "with learning rate " + recipe.training().learningRate() + "; lower learning_rate in the recipe");
    }
}

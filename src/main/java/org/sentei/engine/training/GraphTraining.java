package org.sentei.engine.training;

import java.io.IOException;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.sentei.engine.Progress;
import org.sentei.engine.RunException;
import org.sentei.engine.Version;
import org.sentei.format.FormatException;
import org.sentei.format.GraphFolder;
import org.sentei.format.NetworkFolder;
import org.sentei.format.OutputFolder;
import org.sentei.format.PendingFile;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.DeviceException;
import org.sentei.model.GraphNetwork;
import org.sentei.model.LabelledGraph;
import org.sentei.model.LabelledGraph.Split;
import org.sentei.train.Differentiable;
import org.sentei.train.Torch;
import org.sentei.train.TrainingException;

/** {@code sentei train}: from a recipe and a folder of data to a folder with a network. */
public final class GraphTraining {
    /** Share of latent weights out of the histogram's reach from which the report warns. */
    private static final double OUTSIDE = 0.01;

    private GraphTraining() {}

    /**
     * Trains a network on a labelled graph.
     *
     * @param data a folder that {@link GraphFolder} reads
     * @param out absent or empty; gets {@code model.safetensors}, {@code config.json}, {@code recipe.yaml} and
     *     {@code report.json}
     * @throws DeviceException when PyTorch or the backend is not available
     * @throws FormatException when the data are missing or wrong, or the output folder is not free
     * @throws RunException when the loss is not finite or the disk is full
     */
    public static TrainingReport run(
            TrainingRecipe recipe, Path data, Path out, String backend, Backend.Options options, Progress progress) {
        Clock clock = Clock.systemUTC();
        Instant started = clock.instant();
        try {
            Torch.load();
        } catch (TrainingException missing) {
            throw new DeviceException(
                    "pytorch", "training", missing.getMessage(), DeviceException.Kind.UNSUPPORTED, missing);
        }
        if (!GraphFolder.isOne(data)) {
            throw new FormatException("data " + data + ": it holds no graph, which is nodes.csv, edges.csv and"
                    + " features.csv[.gz]; give the folder of one");
        }
        LabelledGraph graph = GraphFolder.read(data);
        GraphNetwork.Nodes network =
                new GraphNetwork.Nodes(graph.features(), recipe.network().hidden(), graph.classes());
        try (Backend device = Backends.find(backend).open(options);
                OutputFolder output = OutputFolder.create(out);
                Differentiable examples = Torch.nodes(network, graph)) {
            PmpTraining.Trained trained = train(network, examples, graph, recipe.settings(), recipe, device, progress);
            TrainingReport.Baseline baseline = null;
            if (recipe.baseline() && recipe.settings().budget() != PmpSettings.Budget.MAGNITUDE) {
                PmpTraining.Trained other = train(
                        network,
                        examples,
                        graph,
                        recipe.settings(PmpSettings.Budget.MAGNITUDE),
                        recipe,
                        device,
                        progress);
                baseline = new TrainingReport.Baseline(
                        zeros(network, other.parameters()), accuracy(examples, graph, other.parameters()));
            }
            List<String> warnings = new ArrayList<>();
            double outside = trained.curve().stream()
                    .mapToDouble(PmpTraining.Point::outside)
                    .max()
                    .orElse(0);
            if (outside > OUTSIDE) {
                warnings.add(String.format(
                        Locale.ROOT,
                        "%.1f %% of the latent weights lay out of the histogram's reach, where nothing pulls at them;"
                                + " use budget prior-ot",
                        100 * outside));
            }
            TrainingReport report = new TrainingReport(
                    Version.current(),
                    started.truncatedTo(ChronoUnit.SECONDS).toString(),
                    ChronoUnit.MILLIS.between(started, clock.instant()) / 1000.0,
                    recipe.seed(),
                    new TrainingReport.Model(
                            network.architecture(),
                            network.parameters().stream()
                                    .mapToLong(GraphNetwork.Parameter::count)
                                    .sum()),
                    new TrainingReport.Data(
                            data.toString(), graph.nodes(), graph.features(), graph.classes(), isolated(graph)),
                    device.info().backend(),
                    recipe.settings().budget().name().toLowerCase(Locale.ROOT).replace('_', '-'),
                    recipe.settings().rate().toPlainString(),
                    trained.mask().count(),
                    zeros(network, trained.parameters()),
                    network.parameters().stream()
                            .filter(GraphNetwork.Parameter::prunable)
                            .mapToLong(GraphNetwork.Parameter::count)
                            .sum(),
                    accuracy(examples, graph, trained.parameters()),
                    trained.curve(),
                    baseline,
                    warnings);
            write(output, network, trained.parameters(), recipe, report);
            return report;
        } catch (IOException failed) {
            throw new RunException(
                    "output " + out + " cannot be written (" + failed + "); free space, or give another" + " folder",
                    failed);
        }
    }

    private static PmpTraining.Trained train(
            GraphNetwork network,
            Differentiable examples,
            LabelledGraph graph,
            PmpSettings settings,
            TrainingRecipe recipe,
            Backend device,
            Progress progress) {
        return new PmpTraining(network, examples, graph.members(Split.TRAIN), settings)
                .run(device, recipe.seed(), progress);
    }

    private static void write(
            OutputFolder output,
            GraphNetwork.Nodes network,
            List<float[]> parameters,
            TrainingRecipe recipe,
            TrainingReport report)
            throws IOException {
        NetworkFolder.write(output.path(), network, parameters, recipe.storage());
        PendingFile.write(output.path().resolve("recipe.yaml"), recipe.text());
        PendingFile.write(output.path().resolve("report.json"), report.json());
        output.commit();
    }

    private static long zeros(GraphNetwork network, List<float[]> parameters) {
        long zeros = 0;
        for (int i = 0; i < parameters.size(); i++) {
            if (network.parameters().get(i).prunable()) {
                for (float weight : parameters.get(i)) {
                    zeros += weight == 0 ? 1 : 0;
                }
            }
        }
        return zeros;
    }

    private static int isolated(LabelledGraph graph) {
        int isolated = 0;
        for (int node = 0; node < graph.nodes(); node++) {
            isolated += graph.degree(node) == 1 ? 1 : 0;
        }
        return isolated;
    }

    private static TrainingReport.Accuracy accuracy(
            Differentiable examples, LabelledGraph graph, List<float[]> parameters) {
        return new TrainingReport.Accuracy(
                accuracy(examples, graph, parameters, Split.TRAIN),
                accuracy(examples, graph, parameters, Split.VALID),
                accuracy(examples, graph, parameters, Split.TEST));
    }

    private static double accuracy(
            Differentiable examples, LabelledGraph graph, List<float[]> parameters, Split split) {
        int[] chosen = graph.members(split);
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
            right += best == graph.label(chosen[i]) ? 1 : 0;
        }
        return (double) right / chosen.length;
    }
}

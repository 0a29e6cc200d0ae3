package org.sentei.engine.training;

import java.io.IOException;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import org.sentei.engine.Fingerprint;
import org.sentei.engine.Journaling;
import org.sentei.engine.Progress;
import org.sentei.engine.RunException;
import org.sentei.engine.Stopwatch;
import org.sentei.engine.Version;
import org.sentei.format.FormatException;
import org.sentei.format.OnnxFile;
import org.sentei.format.OutputFolder;
import org.sentei.kernel.DeviceException;
import org.sentei.model.graph.LayerGraph;
import org.sentei.train.TrainableGraph;

/** {@code sentei train} for networks of images: from a recipe and labelled images to an ONNX file. */
public final class ImageTraining {
    /** Name of the network in the output folder. */
    static final String MODEL = "model.onnx";

    private ImageTraining() {}

    /**
     * Trains a standard network.
     *
     * @param source labelled images; see {@link LabelledImages#read}
     * @param out absent or empty; gets {@code model.onnx}, {@code recipe.yaml}, {@code report.json} and {@code curves.svg}
     * @param journaling whether a run that ends early can be resumed; the learning rate may be another then
     * @throws DeviceException when PyTorch is not available
     * @throws FormatException when the data are missing or wrong, the output folder is not free, or what is to be resumed was
     *     begun with something else
     * @throws RunException when the loss is not finite or the disk is full
     */
    public static ImageReport run(ImageRecipe recipe, Path source, Path out, Journaling journaling, Progress progress) {
        Stopwatch watch = Stopwatch.start();
        GraphTraining.requireTorch();
        LabelledImages images =
                LabelledImages.read(source, recipe.images().how(), recipe.data().sizes(), OptionalLong.empty());
        LayerGraph graph =
                recipe.network().kind().build(recipe.network().sizes(images.form(), images.classes()), recipe.seed());
        try (OutputFolder output = journaling.open(out);
                TrainableGraph net = new TrainableGraph(graph)) {
            FitJournal journal = new FitJournal(
                    output,
                    output.journal(),
                    fingerprint(recipe, images),
                    recipe.training().learningRate(),
                    watch,
                    progress);
            if (journaling == Journaling.RESUME) {
                progress.resumed(journal.steps());
            }
            Fitter fitter = new Fitter(images, progress);
            TrainableGraph.Weights weights = net.weights();
            List<ImageReport.Point> curve =
                    fitter.train(net, weights, recipe.training(), recipe.seed(), journal.of(0, journaling));
            ImageReport report = new ImageReport(
                    Version.current(),
                    journal.watch().beginning(),
                    journal.watch().rounded(),
                    recipe.seed(),
                    new ImageReport.Model(
                            graph.name(),
                            weights.parameters().stream()
                                    .mapToLong(values -> values.length)
                                    .sum()),
                    new ImageReport.Data(
                            source.toString(),
                            images.classes(),
                            images.train().count(),
                            images.valid().count(),
                            images.test().count()),
                    new ImageReport.Accuracy(
                            fitter.accuracy(net, weights, images.train()),
                            fitter.accuracy(net, weights, images.valid()),
                            fitter.accuracy(net, weights, images.test())),
                    curve,
                    journal.warnings());
            OnnxFile.create(output.path().resolve(MODEL), net.with(weights));
            GraphTraining.finish(output, recipe.text(), report.json(), report.curves());
            return report;
        } catch (IOException failed) {
            throw GraphTraining.unwritable(out, failed);
        }
    }

    /** All that the bytes of a result depend on, but for the learning rate, which may be lowered on the way. */
    private static Fingerprint fingerprint(ImageRecipe recipe, LabelledImages images) {
        Map<String, String> fields = new HashMap<>();
        fields.put("sentei", Version.current());
        fields.put("recipe.seed", Long.toString(recipe.seed()));
        fields.put("recipe.network", recipe.network().toString());
        fields.put("recipe.training", without(recipe.training()));
        fields.put("data", images.sha256());
        return new Fingerprint(fields);
    }

    /** Settings without the learning rate. */
    static String without(Fitting how) {
        return new Fitting(
                        how.epochs(),
                        how.batch(),
                        how.optimizer(),
                        1,
                        how.momentum(),
                        how.decay(),
                        how.schedule(),
                        how.shift(),
                        how.flip())
                .toString();
    }
}

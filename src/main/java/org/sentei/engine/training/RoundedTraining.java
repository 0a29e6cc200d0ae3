package org.sentei.engine.training;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.sentei.engine.Fingerprint;
import org.sentei.engine.Journaling;
import org.sentei.engine.Progress;
import org.sentei.engine.RunException;
import org.sentei.engine.Stopwatch;
import org.sentei.engine.Version;
import org.sentei.format.FormatException;
import org.sentei.format.OnnxFile;
import org.sentei.format.OutputFolder;
import org.sentei.format.Sha256;
import org.sentei.kernel.DeviceException;
import org.sentei.method.quantize.Folding;
import org.sentei.model.ModelException;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.Floats;
import org.sentei.train.Rounding;
import org.sentei.train.TrainableGraph;

/**
 * Training of a network of images for integers of few bits: batch normalizations are folded, scales are those of the least squared
 * error after training, then weights and scales learn together while every step computes with rounded numbers. Zeros among the
 * weights stay.
 */
public final class RoundedTraining {
    /** Training images that first scales are taken from, and numbers of each of them. */
    private static final int SAMPLED = 256;

    private static final int NUMBERS = 200_000;

    private RoundedTraining() {}

    /**
     * Trains a model for few bits.
     *
     * @param model an ONNX file with one input of images
     * @param source labelled images; see {@link LabelledImages#read}
     * @param out absent or empty; gets {@code model.onnx}, {@code recipe.yaml}, {@code report.json} and {@code curves.svg}
     * @param journaling whether a run that ends early can be resumed; the learning rate may be another then
     * @throws DeviceException when PyTorch is not available
     * @throws FormatException when model or data are missing or wrong, the output folder is not free, or what is to be resumed
     *     was begun with something else
     * @throws ModelException when the model cannot be trained, or has nothing to round
     * @throws RunException when the loss is not finite or the disk is full
     */
    public static RoundedReport run(
            RoundedRecipe recipe, Path model, Path source, Path out, Journaling journaling, Progress progress) {
        Stopwatch watch = Stopwatch.start();
        GraphTraining.requireTorch();
        try (OnnxFile file = OnnxFile.open(model)) {
            LayerGraph given = file.layers();
            LabelledImages images = LabelledImages.read(
                    source, recipe.images().how(), recipe.data().sizes(), DepthReduction.classes(given));
            Fitter fitter = new Fitter(images, progress);
            LayerGraph folded = Folding.fold(given);
            Map<String, Rounding> roundings;
            double before;
            try (TrainableGraph net = new TrainableGraph(folded)) {
                progress.advanced("scales", 0, 1);
                roundings = RoundedNetwork.roundings(
                        net.graph(),
                        samples(net, images),
                        recipe.bits().inner(),
                        recipe.bits().ends());
                before = fitter.accuracy(net, net.weights(), images.test());
            }
            try (OutputFolder output = journaling.open(out);
                    TrainableGraph net = new TrainableGraph(folded, roundings)) {
                FitJournal journal = new FitJournal(
                        output,
                        output.journal(),
                        fingerprint(recipe, model, images),
                        recipe.training().learningRate(),
                        watch,
                        progress);
                if (journaling == Journaling.RESUME) {
                    progress.resumed(journal.steps());
                }
                TrainableGraph.Weights weights = net.weights();
                double rounded = fitter.accuracy(net, weights, images.test());
                List<ImageReport.Point> curve =
                        fitter.train(net, weights, recipe.training(), recipe.seed(), journal.of(0, journaling));
                RoundedReport report = new RoundedReport(
                        Version.current(),
                        journal.watch().beginning(),
                        journal.watch().rounded(),
                        recipe.seed(),
                        recipe.bits(),
                        new RoundedReport.Accuracy(before, rounded, fitter.accuracy(net, weights, images.test())),
                        roundings.entrySet().stream()
                                .map(entry -> new RoundedReport.LayerBits(
                                        entry.getKey(),
                                        entry.getValue().weightBits(),
                                        entry.getValue().inputBits()))
                                .toList(),
                        curve,
                        journal.warnings());
                file.write(
                        output.path().resolve(ImageTraining.MODEL), RoundedNetwork.exported(net, roundings, weights));
                GraphTraining.finish(output, recipe.text(), report.json(), report.curves());
                return report;
            }
        } catch (IOException failed) {
            throw GraphTraining.unwritable(out, failed);
        }
    }

    /** What layers with weights read on some training images. */
    private static Map<String, float[]> samples(TrainableGraph net, LabelledImages images) {
        List<String> values = RoundedNetwork.layers(net.graph()).stream()
                .map(layer -> layer.input(0))
                .distinct()
                .toList();
        int count = Math.min(SAMPLED, images.train().count());
        float[] pixels =
                Arrays.copyOf(images.train().pixels(), count * images.form().size());
        String input = net.graph().inputs().getFirst().name();
        Map<String, float[]> samples = new LinkedHashMap<>();
        net.values(
                net.weights(),
                List.of(images.batch(input, pixels)),
                values,
                read -> read.forEach((name, tensor) -> samples.put(name, thinned(Floats.toArray(tensor)))));
        return samples;
    }

    /** Evenly spread ones of many numbers, and the two at the ends of their range. */
    private static float[] thinned(float[] all) {
        int every = Math.ceilDiv(all.length, NUMBERS);
        float[] some = new float[Math.ceilDiv(all.length, every) + 2];
        float least = all[0];
        float most = all[0];
        for (int i = 0; i < all.length; i++) {
            least = Math.min(least, all[i]);
            most = Math.max(most, all[i]);
            if (i % every == 0) {
                some[i / every] = all[i];
            }
        }
        some[some.length - 2] = least;
        some[some.length - 1] = most;
        return some;
    }

    private static Fingerprint fingerprint(RoundedRecipe recipe, Path model, LabelledImages images) {
        Map<String, String> fields = new HashMap<>();
        fields.put("sentei", Version.current());
        fields.put("model", new Sha256().add(model).hex());
        fields.put("recipe.seed", Long.toString(recipe.seed()));
        fields.put("recipe.bits", recipe.bits().toString());
        fields.put("recipe.training", ImageTraining.without(recipe.training()));
        fields.put("data", images.sha256());
        return new Fingerprint(fields);
    }
}

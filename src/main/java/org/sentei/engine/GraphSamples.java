package org.sentei.engine;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import org.sentei.format.OnnxFile;
import org.sentei.model.GraphModel;
import org.sentei.model.ModelException;
import org.sentei.model.TokenBatch;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.onnx.OnnxEncoder;
import org.sentei.model.onnx.OnnxSession;
import org.sentei.tensor.DType;
import org.sentei.tensor.Tensor;

/** What a graph of any kind is fed when it is measured: images, or windows of tokens. */
final class GraphSamples {
    private static final String KEYS = "keys.txt";

    private GraphSamples() {}

    /** Whether a model takes images: one input of four axes. */
    static boolean takesImages(LayerGraph graph) {
        return graph.inputs().size() == 1
                && graph.inputs().getFirst().dtype() == DType.F32
                && graph.inputs().getFirst().dimensions().size() == 4;
    }

    /** Characters that a recogniser's outputs stand for, when the model has such a file. */
    static Optional<List<String>> keys(Path model) {
        Path file = model.toAbsolutePath().resolveSibling(KEYS);
        try {
            return Files.isRegularFile(file)
                    ? Optional.of(Files.readAllLines(file, StandardCharsets.UTF_8))
                    : Optional.empty();
        } catch (IOException e) {
            throw new ModelException(file + " cannot be read: " + e.getMessage() + "; it is one character a line", e);
        }
    }

    /** Windows of tokens, one at a time, as an encoder is fed them. */
    static SampleRunner.Samples tokens(OnnxFile file, LayerGraph graph, Calibration windows, Arena arena) {
        GraphModel runnable = file.runnable(graph, List.of(), arena);
        List<List<Tensor>> fed = new ArrayList<>();
        try (OnnxSession session = OnnxSession.open(runnable, 1)) {
            OnnxEncoder encoder = new OnnxEncoder(session);
            for (Calibration.Batches batches : List.of(windows.fitting(), windows.heldOut())) {
                for (int batch = 0; batch < batches.count(); batch++) {
                    for (int[] window : batches.batches().get(batch)) {
                        int[] mask = new int[window.length];
                        Arrays.fill(mask, 1);
                        fed.add(encoder.feed(TokenBatch.of(new int[][] {window}, new int[][] {mask})));
                    }
                }
            }
        }
        return new SampleRunner.Samples() {
            @Override
            public int count() {
                return fed.size();
            }

            @Override
            public List<Tensor> inputs(int sample) {
                return fed.get(sample);
            }
        };
    }
}

package org.sentei.engine;

import java.lang.foreign.Arena;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.sentei.format.OnnxFile;
import org.sentei.method.quantize.GraphRunner;
import org.sentei.model.onnx.OnnxRuntimeLibrary;
import org.sentei.model.onnx.OnnxSession;
import org.sentei.tensor.Tensor;

/** Carries samples through graphs of one file in ONNX Runtime, one at a time: memory does not grow with their number. */
final class SampleRunner implements GraphRunner {
    private final OnnxFile file;
    private final Samples samples;
    private final int threads;
    private final Progress progress;

    /** What goes in. */
    interface Samples {
        int count();

        /** The inputs of the model for one sample, by their names. */
        List<Tensor> inputs(int sample);
    }

    SampleRunner(OnnxFile file, Samples samples, int threads, Progress progress) {
        this.file = file;
        this.samples = samples;
        this.threads = threads;
        this.progress = progress;
    }

    @Override
    public int samples() {
        return samples.count();
    }

    @Override
    public void run(List<Tapped> graphs, int from, int to, Consumer<List<Map<String, Tensor>>> batch) {
        OnnxRuntimeLibrary.require();
        List<OnnxSession> sessions = new ArrayList<>();
        try (Arena arena = Arena.ofConfined()) {
            try {
                for (Tapped tapped : graphs) {
                    sessions.add(OnnxSession.open(file.runnable(tapped.graph(), tapped.values(), arena), threads));
                }
                for (int sample = from; sample < to; sample++) {
                    progress.stopIfCancelled("samples");
                    List<Tensor> inputs = samples.inputs(sample);
                    List<Map<String, Tensor>> results = new ArrayList<>();
                    for (int i = 0; i < sessions.size(); i++) {
                        results.add(run(sessions.get(i), graphs.get(i), inputs));
                    }
                    batch.accept(results);
                }
            } finally {
                sessions.forEach(OnnxSession::close);
            }
        }
    }

    /** A part of a graph may need fewer inputs. */
    private static Map<String, Tensor> run(OnnxSession session, Tapped tapped, List<Tensor> inputs) {
        List<String> wanted =
                session.inputs().stream().map(OnnxSession.Port::name).toList();
        return session.run(
                inputs.stream().filter(input -> wanted.contains(input.name())).toList(), tapped.values());
    }
}

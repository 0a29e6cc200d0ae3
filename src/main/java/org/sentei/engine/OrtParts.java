package org.sentei.engine;

import java.lang.foreign.Arena;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import org.sentei.format.OnnxFile;
import org.sentei.model.graph.FloatParts;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.onnx.OnnxSession;
import org.sentei.tensor.DType;
import org.sentei.tensor.Tensor;

/** Float parts of a graph of integers, in ONNX Runtime. */
final class OrtParts implements FloatParts {
    private final OnnxFile file;
    private final int threads;

    OrtParts(OnnxFile file, int threads) {
        this.file = file;
        this.threads = threads;
    }

    @Override
    public FloatParts.Part open(LayerGraph part) {
        Arena arena = Arena.ofConfined();
        try {
            return new Opened(arena, OnnxSession.open(file.runnable(part, List.of(), arena), threads));
        } catch (RuntimeException | Error e) {
            arena.close();
            throw e;
        }
    }

    private record Opened(Arena arena, OnnxSession session) implements FloatParts.Part {
        @Override
        public Map<String, Tensor> run(List<Tensor> inputs, Collection<String> wanted) {
            return session.run(inputs, wanted);
        }

        @Override
        public DType dtype(String output) {
            return session.outputs().stream()
                    .filter(port -> port.name().equals(output))
                    .findFirst()
                    .orElseThrow()
                    .dtype();
        }

        @Override
        public void close() {
            try (arena) {
                session.close();
            }
        }
    }
}

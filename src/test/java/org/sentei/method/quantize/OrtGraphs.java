package org.sentei.method.quantize;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Random;
import java.util.function.Consumer;
import java.util.function.ToDoubleFunction;
import org.sentei.format.OnnxFile;
import org.sentei.format.OnnxGraphs;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.format.onnx.proto.TypeProto;
import org.sentei.format.onnx.proto.ValueInfoProto;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.onnx.OnnxSession;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** Runs test graphs in ONNX Runtime on seeded samples. */
public final class OrtGraphs implements GraphRunner, AutoCloseable {
    private final Path shell;
    private final OnnxFile file;
    private final List<Tensor> samples = new ArrayList<>();

    public OrtGraphs(LayerGraph graph, int count, long... shape) {
        this(graph, Random::nextGaussian, count, shape);
    }

    /** On whole numbers: sums of their products with others are exact. */
    public static OrtGraphs ofWholeNumbers(LayerGraph graph, int count, long... shape) {
        return new OrtGraphs(graph, random -> random.nextInt(9) - 4, count, shape);
    }

    private OrtGraphs(LayerGraph graph, ToDoubleFunction<Random> drawn, int count, long... shape) {
        this.shell = shell(graph);
        this.file = OnnxFile.open(shell);
        Random random = new Random(11);
        for (int i = 0; i < count; i++) {
            float[] values = new float[(int) Shape.of(shape).elements()];
            for (int k = 0; k < values.length; k++) {
                values[k] = (float) drawn.applyAsDouble(random);
            }
            samples.add(new Tensor("x", DType.F32, Shape.of(shape), MemorySegment.ofArray(values)));
        }
    }

    /** A file with the same inputs and outputs, which graphs are run as parts of. */
    private static Path shell(LayerGraph graph) {
        try {
            Path file = Files.createTempFile("shell", ".onnx");
            String output = graph.outputs().getFirst().name();
            GraphProto.Builder proto = OnnxGraphs.graph(OnnxGraphs.node("Identity", "x", output))
                    .clearOutput()
                    .addOutput(ValueInfoProto.newBuilder()
                            .setName(output)
                            .setType(TypeProto.newBuilder()
                                    .setTensorType(TypeProto.Tensor.newBuilder().setElemType(1))));
            return OnnxGraphs.save(file, OnnxGraphs.model(proto).toByteArray());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Override
    public int samples() {
        return samples.size();
    }

    @Override
    public void run(List<Tapped> graphs, int from, int to, Consumer<List<Map<String, Tensor>>> batch) {
        try (Arena arena = Arena.ofConfined()) {
            List<OnnxSession> sessions = graphs.stream()
                    .map(tapped -> OnnxSession.open(file.runnable(tapped.graph(), tapped.values(), arena), 1))
                    .toList();
            for (int i = from; i < to; i++) {
                List<Map<String, Tensor>> results = new ArrayList<>();
                for (int g = 0; g < sessions.size(); g++) {
                    results.add(sessions.get(g)
                            .run(List.of(samples.get(i)), graphs.get(g).values()));
                }
                batch.accept(results);
            }
            sessions.forEach(OnnxSession::close);
        }
    }

    /** What graphs are run as parts of. */
    public OnnxFile file() {
        return file;
    }

    /** The input of a sample. */
    public Tensor sample(int index) {
        return samples.get(index);
    }

    /** Of a sample. */
    public Shape shape() {
        return samples.getFirst().shape();
    }

    /** What a part of a graph gives for seeded numbers at its only input. */
    public float[] piece(LayerGraph piece) {
        LayerGraph.Port port = piece.inputs().getFirst();
        Shape shape = Shape.of(
                port.dimensions().stream().mapToLong(OptionalLong::getAsLong).toArray());
        float[] values = new float[(int) shape.elements()];
        Random random = new Random(13);
        for (int i = 0; i < values.length; i++) {
            values[i] = random.nextInt(9) - 4;
        }
        String output = piece.outputs().getFirst().name();
        try (Arena arena = Arena.ofConfined();
                OnnxSession session = OnnxSession.open(file.runnable(piece, List.of(output), arena), 1)) {
            Tensor fed = new Tensor(port.name(), DType.F32, shape, MemorySegment.ofArray(values));
            return Floats.toArray(session.run(List.of(fed), List.of(output)).get(output));
        }
    }

    /** What a graph gives for all samples, one behind the other. */
    public float[] outputs(LayerGraph graph) {
        return values(graph, graph.outputs().getFirst().name());
    }

    public float[] values(LayerGraph graph, String value) {
        List<float[]> parts = new ArrayList<>();
        run(
                List.of(new Tapped(graph.upTo(List.of(value)), List.of(value))),
                0,
                samples.size(),
                batch -> parts.add(Floats.toArray(batch.getFirst().get(value))));
        float[] all = new float[parts.stream().mapToInt(part -> part.length).sum()];
        int at = 0;
        for (float[] part : parts) {
            System.arraycopy(part, 0, all, at, part.length);
            at += part.length;
        }
        return all;
    }

    public static double largestDifference(float[] a, float[] b) {
        double largest = a.length == b.length ? 0 : Double.NaN;
        for (int i = 0; i < Math.min(a.length, b.length); i++) {
            double difference = Math.abs((double) a[i] - b[i]);
            largest = difference <= largest ? largest : difference;
        }
        return largest;
    }

    @Override
    public void close() {
        file.close();
        try {
            Files.delete(shell);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}

package org.sentei.model.onnx;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.sentei.format.OnnxGraphs.graph;
import static org.sentei.format.OnnxGraphs.integer;
import static org.sentei.format.OnnxGraphs.matrix;
import static org.sentei.format.OnnxGraphs.model;
import static org.sentei.format.OnnxGraphs.node;
import static org.sentei.format.OnnxGraphs.save;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.format.OnnxFile;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.model.ModelException;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

class OnnxSessionTest {
    private static final Tensor X =
            new Tensor("x", DType.F32, Shape.of(1, 2), MemorySegment.ofArray(new float[] {-1, 10}));

    @TempDir
    Path folder;

    @Test
    void tapsInputsConstantsAndInnerValuesOfAnyType() {
        GraphProto.Builder graph = graph(
                        node("MatMul", "x w", "h"),
                        node("Relu", "h", "r"),
                        node("Cast", "r", "half", integer("to", 10)),
                        node("Cast", "half", "y", integer("to", 1)))
                .addInitializer(matrix("w", 2, 2));
        List<String> values = List.of("half", "x", "h", "y", "r");
        Map<String, Tensor> result = run(graph, values, List.of(X), values);

        assertThat(result.keySet()).containsExactlyElementsOf(values);
        assertThat(Floats.toArray(result.get("x"))).containsExactly(-1, 10);
        assertThat(Floats.toArray(result.get("h"))).containsExactly(29, 38);
        assertThat(result.get("half").dtype()).isEqualTo(DType.F16);
        assertThat(Floats.toArray(result.get("half"))).containsExactly(29, 38);
        assertThat(result.get("y").shape()).isEqualTo(Shape.of(1, 2));
    }

    @Test
    void refusesATapThatTheGraphDoesNotHave() {
        assertThatThrownBy(() -> run(simple(), List.of("nowhere"), List.of(X), List.of("y")))
                .isInstanceOf(ModelException.class)
                .hasMessageContaining("nowhere");
    }

    @Test
    void refusesWrongInputsByName() {
        Tensor integers = new Tensor("x", DType.I64, Shape.of(1), MemorySegment.ofArray(new long[1]));
        Tensor unknown = new Tensor("z", DType.F32, Shape.of(1), MemorySegment.ofArray(new float[1]));
        Tensor wrongShape = new Tensor("x", DType.F32, Shape.of(1, 3), MemorySegment.ofArray(new float[3]));

        assertRefused(List.of(), List.of("y"), "[x]");
        assertRefused(List.of(integers), List.of("y"), "takes F32, not I64");
        assertRefused(List.of(X, unknown), List.of("y"), "no input \"z\"");
        assertRefused(List.of(X), List.of("w"), "no output \"w\"");
        assertRefused(List.of(wrongShape), List.of("y"), "failed while running");
    }

    @Test
    void refusesAModelThatOnnxRuntimeCannotLoad() {
        assertThatThrownBy(() -> run(graph(node("NoSuchOperator", "x", "y")), List.of(), List.of(X), List.of("y")))
                .isInstanceOf(ModelException.class)
                .hasMessageContaining("NoSuchOperator");
    }

    @Test
    void describesInputsAndRefusesToEncodeForeignOnes() {
        try (OnnxFile file = OnnxFile.open(save(folder, model(simple())));
                Arena arena = Arena.ofConfined();
                OnnxSession session = open(file, List.of("h"), arena)) {
            assertThat(session.inputs()).extracting(OnnxSession.Port::name).containsExactly("x");
            assertThat(session.inputs()).extracting(OnnxSession.Port::dtype).containsExactly(DType.F32);
            assertThat(session.outputs()).extracting(OnnxSession.Port::name).containsExactly("y", "h");
            assertThatThrownBy(() -> new OnnxEncoder(session))
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("[x]");
        }
    }

    private void assertRefused(List<Tensor> inputs, List<String> wanted, String fact) {
        assertThatThrownBy(() -> run(simple(), List.of(), inputs, wanted))
                .isInstanceOf(ModelException.class)
                .hasMessageContaining(fact);
    }

    private static GraphProto.Builder simple() {
        return graph(node("MatMul", "x w", "h"), node("Relu", "h", "y")).addInitializer(matrix("w", 2, 2));
    }

    private Map<String, Tensor> run(
            GraphProto.Builder graph, List<String> taps, List<Tensor> inputs, List<String> wanted) {
        try (OnnxFile file = OnnxFile.open(save(folder, model(graph)));
                Arena arena = Arena.ofConfined();
                OnnxSession session = open(file, taps, arena)) {
            return session.run(inputs, wanted);
        }
    }

    private static OnnxSession open(OnnxFile file, List<String> taps, Arena arena) {
        return OnnxSession.open(file.tapped(taps, List.of(), arena), 1);
    }

    /** What a process with a long command line runs. */
    static final class Versions {
        private Versions() {}

        public static void main(String[] arguments) {
            System.out.println(OnnxRuntimeLibrary.version());
        }
    }

    @Test
    void aLongCommandLineDoesNotEndTheProcess() throws Exception {
        Process process = new ProcessBuilder(
                        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                        "--enable-native-access=ALL-UNNAMED",
                        "-Dlong=" + "x".repeat(100_000),
                        "-cp",
                        System.getProperty("java.class.path"),
                        Versions.class.getName())
                .redirectError(ProcessBuilder.Redirect.DISCARD)
                .start();
        String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertThat(process.waitFor()).isZero();
        assertThat(said.strip()).isEqualTo(OnnxRuntimeLibrary.version());
    }
}

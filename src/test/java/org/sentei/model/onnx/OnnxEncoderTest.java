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
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.format.OnnxFile;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.format.onnx.proto.TensorProto;
import org.sentei.format.onnx.proto.TypeProto;
import org.sentei.format.onnx.proto.ValueInfoProto;
import org.sentei.model.ModelException;
import org.sentei.model.onnx.OnnxEncoder.Batch;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

class OnnxEncoderTest {
    private static final int INT32 = 6;
    private static final int INT64 = 7;
    private static final List<int[]> WINDOWS = List.of(new int[] {2}, new int[] {1, 0, 2}, new int[] {0, 1});

    @TempDir
    Path folder;

    /** Row i of the table is (2i + 1, 2i + 2). */
    private static final double[][] TABLE = {{1, 2}, {3, 4}, {5, 6}};

    @ParameterizedTest
    @ValueSource(strings = {"tokens", "flat", "half"})
    void leavesOutTheRowsOfPadding(String value) {
        List<Batch> batches = run(INT64, value, 2);

        assertThat(batches).extracting(Batch::first).containsExactly(0, 2);
        assertThat(batches).extracting(Batch::lengths).containsExactly(List.of(1, 3), List.of(2));
        assertRows(batches.getFirst().rows().get(value), 2, 1, 0, 2);
        assertRows(batches.getLast().rows().get(value), 0, 1);
    }

    @Test
    void keepsOneRowAWindowWhereTheModelDoes() {
        List<Batch> batches = run(INT64, "pooled", 3);

        assertRows(batches.getFirst().rows().get("pooled"), 2, 1, 0);
    }

    @Test
    void feedsNarrowIntegersToo() {
        assertRows(run(INT32, "tokens", 3).getFirst().rows().get("tokens"), 2, 1, 0, 2, 0, 1);
    }

    @Test
    void tellsTheModelWhatIsPadding() {
        assertThat(Floats.toArray(run(INT64, "masked", 3).getFirst().rows().get("masked")))
                .containsExactly(1, 1, 1, 1, 1, 1);
    }

    @Test
    void refusesAValueWithoutARowForAToken() {
        assertThatThrownBy(() -> run(INT64, "table", 2))
                .isInstanceOf(ModelException.class)
                .hasMessageContaining("\"table\"")
                .hasMessageContaining("no row");
    }

    @Test
    void refusesAnEmptyWindow() {
        assertThatThrownBy(() -> run(INT64, "tokens", 2, List.of(new int[0], new int[1])))
                .isInstanceOf(ModelException.class)
                .hasMessageContaining("no tokens");
    }

    /** What runs in the memory of the batch before is read before the next one: here, as it comes. */
    @ParameterizedTest
    @ValueSource(strings = {"tokens", "flat", "pooled"})
    void batchesAsLongAsTheFirstShareItsMemory(String value) {
        List<int[]> windows = List.of(
                new int[] {2, 0}, new int[] {1, 1}, new int[] {0, 1}, new int[] {2, 2}, new int[] {1, 0}, new int[] {0
                });
        List<double[]> rows = new ArrayList<>();
        List<Long> addresses = new ArrayList<>();

        run(INT64, value, 2, windows, batch -> {
            Tensor tensor = batch.rows().get(value);
            rows.add(IntStream.range(0, (int) tensor.shape().elements())
                    .mapToDouble(i -> Floats.get(tensor.dtype(), tensor.data(), i))
                    .toArray());
            addresses.add(tensor.data().address());
        });

        boolean pooled = value.equals("pooled");
        assertThat(rows.get(0)).containsExactly(pooled ? table(2, 1) : table(2, 0, 1, 1));
        assertThat(rows.get(1)).containsExactly(pooled ? table(0, 2) : table(0, 1, 2, 2));
        assertThat(rows.get(2)).containsExactly(pooled ? table(1, 0) : table(1, 0, 0));
        assertThat(addresses.get(1)).isEqualTo(addresses.get(0));
    }

    private static double[] table(int... ids) {
        return Arrays.stream(ids)
                .boxed()
                .flatMapToDouble(id -> Arrays.stream(TABLE[id]))
                .toArray();
    }

    private static void assertRows(Tensor rows, int... ids) {
        assertThat(rows.dtype()).isEqualTo(DType.F32);
        assertThat(rows.shape()).isEqualTo(Shape.of(ids.length, 2));
        for (int i = 0; i < ids.length; i++) {
            assertThat(Floats.get(rows.dtype(), rows.data(), 2L * i)).isEqualTo(TABLE[ids[i]][0]);
            assertThat(Floats.get(rows.dtype(), rows.data(), 2L * i + 1)).isEqualTo(TABLE[ids[i]][1]);
        }
    }

    private List<Batch> run(int type, String value, int batch) {
        return run(type, value, batch, WINDOWS);
    }

    private List<Batch> run(int type, String value, int batch, List<int[]> windows) {
        List<Batch> batches = new ArrayList<>();
        run(type, value, batch, windows, batches::add);
        return batches;
    }

    private void run(int type, String value, int batch, List<int[]> windows, Consumer<Batch> consumer) {
        GraphProto.Builder graph = graph(
                        node("Gather", "table input_ids", "tokens"),
                        node("Reshape", "tokens shape", "flat"),
                        node("Cast", "tokens", "half", integer("to", 10)),
                        node("Gather", "tokens zero", "pooled", integer("axis", 1)),
                        node("Cast", "attention_mask", "floating", integer("to", 1)),
                        node("Unsqueeze", "floating last", "masked"),
                        node("Identity", "pooled", "y"))
                .clearInput()
                .addInput(input("input_ids", type))
                .addInput(input("attention_mask", type))
                .addInitializer(matrix("table", 3, 2))
                .addInitializer(integers("shape", -1, 2))
                .addInitializer(integers("last", 2))
                .addInitializer(integers("zero", 0).toBuilder().clearDims());
        try (OnnxFile file = OnnxFile.open(save(folder, model(graph)));
                Arena arena = Arena.ofConfined();
                OnnxSession session = OnnxSession.open(file.tapped(List.of(value), List.of(), arena), 1)) {
            new OnnxEncoder(session).run(windows, batch, List.of(value), consumer);
        }
    }

    private static ValueInfoProto input(String name, int type) {
        return ValueInfoProto.newBuilder()
                .setName(name)
                .setType(TypeProto.newBuilder()
                        .setTensorType(TypeProto.Tensor.newBuilder().setElemType(type)))
                .build();
    }

    private static TensorProto integers(String name, long... values) {
        TensorProto.Builder tensor =
                TensorProto.newBuilder().setName(name).setDataType(INT64).addDims(values.length);
        for (long value : values) {
            tensor.addInt64Data(value);
        }
        return tensor.build();
    }
}

package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.format.onnx.proto.ModelProto;
import org.sentei.format.onnx.proto.TensorProto;
import org.sentei.model.Edit;
import org.sentei.model.Site;
import org.sentei.model.Site.Role;
import org.sentei.model.onnx.OnnxEncoder;
import org.sentei.model.onnx.OnnxSession;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** The model that everybody uses first: found, read, tapped, pruned, written and run. */
class OnnxMiniLmTest {
    private static final Path MODEL = ModelZoo.configured().locate("all-minilm-l6-v2");
    private static final List<int[]> WINDOWS =
            List.of(new int[] {101, 7592, 2088, 102}, new int[] {101, 1037, 3899, 2003, 2019, 4111, 102});

    @TempDir
    Path folder;

    @Test
    void hasSixLayersOfSixSitesAndAPooler() {
        List<String> parts = List.of(
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
                "attention.output.dense",
                "intermediate.dense",
                "output.dense");
        List<Role> roles = List.of(Role.QUERY, Role.KEY, Role.VALUE, Role.ATTENTION_OUTPUT, Role.UP, Role.DOWN);
        try (OnnxFile file = OnnxFile.open(MODEL)) {
            assertThat(file.sites()).hasSize(37);
            assertThat(file.sites().getLast().name()).isEqualTo("pooler.dense");
            assertThat(file.sites().getLast().role()).isEqualTo(Role.HEAD);
            for (int i = 0; i < 36; i++) {
                Site site = file.sites().get(i);
                String name = "encoder.layer." + i / 6 + "." + parts.get(i % 6);
                assertThat(site.name()).isEqualTo(name);
                assertThat(site.bias()).isEqualTo(name + ".bias");
                assertThat(site.role()).isEqualTo(roles.get(i % 6));
                assertThat(site.block()).isEqualTo(i / 6);
                assertThat(site.transposed()).isTrue();
                assertThat(site.rows()).isEqualTo(i % 6 == 4 ? 1536 : 384);
                assertThat(site.cols()).isEqualTo(i % 6 == 5 ? 1536 : 384);
                assertThat(file.tensor(site.weight()).shape()).isEqualTo(Shape.of(site.cols(), site.rows()));
                assertThat(file.tensor(site.bias()).shape()).isEqualTo(Shape.of(site.rows()));
            }
            assertThat(file.sites().stream().limit(3).map(Site::input))
                    .containsOnly("/embeddings/LayerNorm/Add_1_output_0");
        }
    }

    @Test
    void aTapGivesTheRowsThatASiteReads() {
        try (OnnxFile file = OnnxFile.open(MODEL);
                Arena arena = Arena.ofConfined()) {
            Site site = file.sites().getFirst();
            String output = "/encoder/layer.0/attention/self/query/Add_output_0";
            try (OnnxSession session = open(file, List.of(site.input(), output), arena)) {
                new OnnxEncoder(session).run(WINDOWS, 2, List.of(site.input(), output), batch -> {
                    Tensor read = batch.rows().get(site.input());
                    assertThat(batch.lengths()).containsExactly(4, 7);
                    assertThat(read.shape()).isEqualTo(Shape.of(11, 384));
                    assertLinear(
                            read,
                            file.tensor(site.weight()),
                            file.tensor(site.bias()),
                            batch.rows().get(output));
                });
            }
        }
    }

    @Test
    void batchesGiveWhatSingleWindowsGive() {
        try (OnnxFile file = OnnxFile.open(MODEL);
                Arena arena = Arena.ofConfined();
                OnnxSession session = open(file, List.of(), arena)) {
            OnnxEncoder encoder = new OnnxEncoder(session);
            String output = session.outputs().getFirst().name();
            List<float[]> together = new ArrayList<>();
            List<float[]> alone = new ArrayList<>();
            encoder.run(
                    WINDOWS,
                    2,
                    List.of(output),
                    batch -> together.add(Floats.toArray(batch.rows().get(output))));
            encoder.run(
                    WINDOWS,
                    1,
                    List.of(output),
                    batch -> alone.add(Floats.toArray(batch.rows().get(output))));

            assertThat(together).hasSize(1);
            assertThat(alone).hasSize(2);
            float[] joined = new float[11 * 384];
            System.arraycopy(alone.getFirst(), 0, joined, 0, 4 * 384);
            System.arraycopy(alone.getLast(), 0, joined, 4 * 384, 7 * 384);
            double worst = 0;
            for (int i = 0; i < joined.length; i++) {
                worst = worse(worst, Math.abs((double) together.getFirst()[i] - joined[i]));
            }
            assertThat(worst).isLessThanOrEqualTo(1e-4);
        }
    }

    @Test
    void writingWithoutEditsKeepsTheFileByteForByte() throws Exception {
        Path target = folder.resolve("same.onnx");
        try (OnnxFile file = OnnxFile.open(MODEL)) {
            file.write(target, List.of());
        }

        assertThat(Files.mismatch(MODEL, target)).isEqualTo(-1);
    }

    @Test
    void pruningChangesOnlyThePrunedWeightsAndTheGivenBias() {
        Path target = folder.resolve("pruned.onnx");
        Map<String, BitMask> masks = new HashMap<>();
        try (OnnxFile file = OnnxFile.open(MODEL)) {
            List<Edit> edits = new ArrayList<>();
            SplittableRandom random = new SplittableRandom(7);
            for (Site site : file.sites()) {
                BitMask mask = BitMask.none(site.rows(), site.cols());
                for (long row = 0; row < site.rows(); row++) {
                    for (long col = 0; col < site.cols(); col++) {
                        if (random.nextBoolean()) {
                            mask.set(row, col);
                        }
                    }
                }
                masks.put(site.weight(), mask);
                edits.add(new Edit(site, mask, site.block() == 2 ? ones(site) : null));
            }
            file.write(target, edits);

            try (OnnxFile pruned = OnnxFile.open(target);
                    Arena arena = Arena.ofConfined();
                    OnnxSession session = open(pruned, List.of(), arena)) {
                assertThat(pruned.sites()).isEqualTo(file.sites());
                for (Site site : file.sites()) {
                    assertPruned(
                            site, masks.get(site.weight()), file.tensor(site.weight()), pruned.tensor(site.weight()));
                    assertThat(Floats.toArray(pruned.tensor(site.bias())))
                            .isEqualTo(Floats.toArray(site.block() == 2 ? ones(site) : file.tensor(site.bias())));
                }
                String output = session.outputs().getFirst().name();
                new OnnxEncoder(session).run(WINDOWS, 2, List.of(output), batch -> {
                    for (float value : Floats.toArray(batch.rows().get(output))) {
                        assertThat(Float.isFinite(value)).isTrue();
                    }
                });
            }
        }
        assertThat(withoutEditedTensors(target)).isEqualTo(withoutEditedTensors(MODEL));
    }

    private static void assertPruned(Site site, BitMask mask, Tensor before, Tensor after) {
        for (long row = 0; row < site.rows(); row++) {
            for (long col = 0; col < site.cols(); col++) {
                long at = (site.transposed() ? col * site.rows() + row : row * site.cols() + col) * 4;
                int expected = mask.get(row, col) ? 0 : bits(before, at);
                if (bits(after, at) != expected) {
                    throw new AssertionError(site.name() + " (" + row + ", " + col + ")");
                }
            }
        }
    }

    private static int bits(Tensor tensor, long offset) {
        return tensor.data().get(ValueLayout.JAVA_INT_UNALIGNED, offset);
    }

    private static ModelProto withoutEditedTensors(Path path) {
        try (OnnxFile file = OnnxFile.open(path)) {
            List<String> edited = new ArrayList<>();
            file.sites().forEach(site -> {
                edited.add(site.weight());
                edited.add(site.bias());
            });
            ModelProto.Builder model = OnnxGraphs.load(path).toBuilder();
            GraphProto.Builder graph = model.getGraphBuilder();
            for (TensorProto.Builder tensor : graph.getInitializerBuilderList()) {
                if (edited.contains(tensor.getName())) {
                    tensor.clearRawData();
                }
            }
            return model.build();
        }
    }

    private static void assertLinear(Tensor read, Tensor weight, Tensor bias, Tensor output) {
        float[] x = Floats.toArray(read);
        float[] w = Floats.toArray(weight);
        float[] b = Floats.toArray(bias);
        float[] y = Floats.toArray(output);
        double worst = 0;
        for (int row = 0; row < read.shape().dimension(0); row++) {
            for (int out = 0; out < b.length; out++) {
                double sum = b[out];
                for (int in = 0; in < 384; in++) {
                    sum += (double) x[row * 384 + in] * w[in * b.length + out];
                }
                worst = worse(worst, Math.abs(y[row * b.length + out] - sum));
            }
        }
        assertThat(worst).isLessThanOrEqualTo(1e-4);
    }

    /** The larger of two errors, where NaN is larger than all. */
    private static double worse(double worst, double error) {
        return error <= worst ? worst : error;
    }

    private static Tensor ones(Site site) {
        float[] values = new float[(int) site.rows()];
        Arrays.fill(values, 1);
        return new Tensor(site.bias(), DType.F32, Shape.of(site.rows()), MemorySegment.ofArray(values));
    }

    private static OnnxSession open(OnnxFile file, List<String> taps, Arena arena) {
        return OnnxSession.open(file.tapped(taps, List.of(), arena), 1);
    }
}

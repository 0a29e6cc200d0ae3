package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;

import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.report.Report;
import org.sentei.format.HuggingFaceFolder;
import org.sentei.model.Site;
import org.sentei.model.TensorSource;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

class WeightHistogramsTest {
    private record One(Tensor only) implements TensorSource {
        @Override
        public Collection<String> names() {
            return List.of(only.name());
        }

        @Override
        public boolean contains(String name) {
            return name.equals(only.name());
        }

        @Override
        public Tensor tensor(String name) {
            return only;
        }
    }

    private static One source(DType dtype, double... values) {
        MemorySegment data = MemorySegment.ofArray(new byte[Math.toIntExact(dtype.bytesFor(values.length))]);
        for (int i = 0; i < values.length; i++) {
            Floats.set(dtype, data, i, values[i]);
        }
        return new One(new Tensor("w", dtype, Shape.of(1, values.length), data));
    }

    private static Report.Weights histogram(One before, One after) {
        Site site = new Site("w", "w", null, 1, before.only().shape().elements(), false, Site.Role.OTHER, 0, "x");
        return WeightHistograms.of(List.of(site), before, after, 2).getFirst();
    }

    private static Map<Integer, Long> occupied(List<Long> bins) {
        Map<Integer, Long> occupied = new HashMap<>();
        for (int i = 0; i < bins.size(); i++) {
            if (bins.get(i) != 0) {
                occupied.put(i, bins.get(i));
            }
        }
        return occupied;
    }

    /** Root mean square 1, so the range is -4 to 4 and a bin is 1/8 wide. */
    @ParameterizedTest
    @EnumSource(names = {"F64", "F32", "F16", "BF16"})
    void everyValueIsInItsBin(DType dtype) {
        double[] values = {1, -0.0, 0, -0.125, 0.125, 3.9, 4, 1000, -4, -4.01, -1e-5};
        Report.Weights histogram = histogram(source(dtype, values), source(dtype, new double[values.length]));
        assertThat(histogram.limit()).isEqualTo(4);
        assertThat(histogram.zerosBefore()).isEqualTo(2);
        assertThat(occupied(histogram.before())).isEqualTo(Map.of(40, 1L, 31, 2L, 33, 1L, 63, 3L, 0, 2L));
        assertThat(histogram.zerosAfter()).isEqualTo(values.length);
        assertThat(occupied(histogram.after())).isEmpty();
    }

    @Test
    void whatIsNoZeroInTheFileCountsAsNone() {
        Report.Weights histogram =
                histogram(source(DType.F64, 1, 1e-300, -1e-300, 0), source(DType.F64, 1, 1e-300, 0, 0));
        assertThat(histogram.zerosBefore()).isEqualTo(1);
        assertThat(occupied(histogram.before())).isEqualTo(Map.of(40, 1L, 32, 2L));
        assertThat(histogram.zerosAfter()).isEqualTo(2);
    }

    @Test
    void aMatrixOfZerosHasARangeToo() {
        Report.Weights histogram = histogram(source(DType.F32, 0, 0), source(DType.F32, 0, 0));
        assertThat(histogram.limit()).isEqualTo(1);
        assertThat(histogram.total()).isEqualTo(2);
    }

    @Test
    void aReportCountsEveryWeightBeforeAndAfter(@TempDir Path folder) {
        Path model = Runs.model("gpt2");
        Report report = Runs.run(CompressionRequest.of(model, Recipes.load("magnitude-50")), folder.resolve("out"));
        assertThat(report.weights())
                .extracting(Report.Weights::site)
                .containsExactlyElementsOf(
                        report.sites().stream().map(Report.SiteResult::name).toList());
        try (HuggingFaceFolder source = HuggingFaceFolder.open(model)) {
            for (int i = 0; i < report.sites().size(); i++) {
                Report.SiteResult site = report.sites().get(i);
                Report.Weights weights = report.weights().get(i);
                assertThat(weights.total()).isEqualTo(site.parameters());
                assertThat(weights.zerosBefore()).isZero();
                assertThat(weights.zerosAfter()).isEqualTo(site.zeros());
                String tensor = Runs.sites(model).stream()
                        .filter(known -> known.name().equals(site.name()))
                        .findFirst()
                        .orElseThrow()
                        .weight();
                long[] bins = new long[Report.Weights.BINS];
                for (float value : Floats.toArray(source.tensor(tensor))) {
                    int bin = 0;
                    while (bin < bins.length - 1 && value >= weights.limit() * (bin + 1 - 32) / 32) {
                        bin++;
                    }
                    bins[bin]++;
                }
                assertThat(weights.before())
                        .isEqualTo(LongStream.of(bins).boxed().toList());
            }
        }
    }
}

package org.sentei.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.engine.IntegerGraphs;
import org.sentei.kernel.Op;

/**
 * Every case of the catalogue through the whole CUDA backend against the reference, with the shipped kernels on an emulated
 * GPU that runs threads in a hostile order.
 */
class CudaConformanceTest {
    private static final long OUTPUTS = 1_000_000;

    @TempDir
    private static Path folder;

    @Test
    void aMillionOutputsOfConvolutionsAreTheBitsOfTheReference() throws Exception {
        EmulatedDriver.Outcome outcome =
                EmulatedDriver.build(folder).run(Map.of(), "convolutions", String.valueOf(OUTPUTS));
        assertThat(outcome.exit()).as(outcome.errors()).isZero();
        assertThat(outcome.of("failure")).isEmpty();
        assertThat(outcome.of("outputs"))
                .singleElement()
                .satisfies(outputs -> assertThat(Long.parseLong(outputs)).isGreaterThanOrEqualTo(OUTPUTS));
    }

    @Test
    void graphsOfIntegersAreTheBitsOfTheReference() throws Exception {
        Path network = IntegerGraphs.network(folder.resolve("qlinear"), "qlinear");
        EmulatedDriver.Outcome outcome = EmulatedDriver.build(folder).run(Map.of(), "integers", network.toString());
        assertThat(outcome.exit()).as(outcome.errors()).isZero();
        assertThat(outcome.of("failure")).isEmpty();
        for (IntegerGraphs.Case graph : IntegerGraphs.all()) {
            assertThat(outcome.of("same"))
                    .filteredOn(line -> line.startsWith(graph.name() + " "))
                    .hasSizeGreaterThanOrEqualTo(2 * graph.integers().size());
        }
        assertThat(outcome.of("same"))
                .filteredOn(line -> line.startsWith("network in a file "))
                .hasSizeGreaterThan(5);
        for (String kind : List.of("contexts", "damaged", "leaked")) {
            assertThat(outcome.count(kind)).as(kind).isZero();
        }
    }

    @TestFactory
    Stream<DynamicTest> everyKernelAgreesWithTheReference() throws Exception {
        EmulatedDriver driver = EmulatedDriver.build(folder);
        List<String> stems = Arrays.stream(Op.class.getPermittedSubclasses())
                .map(op -> Op.stem(op.asSubclass(Op.class)))
                .sorted()
                .toList();
        EmulatedDriver.Outcome outcome = driver.run(
                Map.of(),
                Stream.concat(Stream.of("conformance"), stems.stream()).toArray(String[]::new));

        return Stream.concat(
                Stream.of(DynamicTest.dynamicTest("nothing leaks or strays", () -> {
                    assertThat(outcome.exit()).as(outcome.errors()).isZero();
                    for (String kind : List.of("contexts", "damaged", "leaked")) {
                        assertThat(outcome.count(kind)).as(kind).isZero();
                    }
                })),
                stems.stream()
                        .map(stem -> DynamicTest.dynamicTest(stem, () -> {
                            assertThat(outcome.of("failure"))
                                    .filteredOn(line -> line.startsWith(stem + " "))
                                    .isEmpty();
                            assertThat(outcome.of("checked"))
                                    .as(outcome.errors())
                                    .anySatisfy(line -> assertThat(line).matches(stem + " [1-9][0-9]*"));
                        })));
    }
}

package org.sentei.kernel;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicContainer;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/** Every case of the catalogue on every available backend, against the reference. */
class ConformanceTest {
    /** The first is the one that {@code sentei doctor} draws from. */
    private static final long[] SEEDS = {1, 20260101};

    @TestFactory
    Stream<DynamicContainer> everyBackendAgreesWithTheReference() {
        return AvailableBackends.providers().stream()
                .map(provider -> DynamicContainer.dynamicContainer(
                        provider.name(),
                        OpCases.all().stream()
                                .collect(Collectors.groupingBy(opCase -> Op.stem(opCase.op())))
                                .entrySet()
                                .stream()
                                .sorted(Map.Entry.comparingByKey())
                                .map(op -> DynamicTest.dynamicTest(
                                        op.getKey(), () -> checkAll(provider, op.getValue())))));
    }

    private static void checkAll(Backend.Provider provider, List<OpCase> cases) {
        try (Backend candidate = provider.open(Backend.Options.defaults());
                Backend reference = Backends.find("reference").open(Backend.Options.defaults())) {
            Conformance conformance = new Conformance(candidate, reference);
            for (long seed : SEEDS) {
                assertThat(cases.stream().flatMap(opCase -> conformance.check(opCase, seed).failure().stream()))
                        .isEmpty();
            }
        }
    }

    @Test
    void everyOpHasCasesToCheckAndToTime() {
        for (List<OpCase> cases : List.of(OpCases.all(), OpCases.benchmarks())) {
            Set<String> covered =
                    cases.stream().map(opCase -> Op.stem(opCase.op())).collect(Collectors.toCollection(TreeSet::new));
            assertThat(covered)
                    .containsExactlyElementsOf(Arrays.stream(Op.class.getPermittedSubclasses())
                            .map(op -> Op.stem(op.asSubclass(Op.class)))
                            .sorted(Comparator.naturalOrder())
                            .toList());
        }
    }

    @Test
    void everyOperandToTimeCanBeFilled() {
        for (OpCase opCase : OpCases.benchmarks()) {
            for (OpCase.Operand operand : opCase.operands()) {
                try (Arena arena = Arena.ofConfined()) {
                    MemorySegment packed = arena.allocate(
                            operand.rows() * operand.cols() * operand.dtype().bytes(), 8);
                    assertThatCode(() -> operand.fill()
                                    .fill(new SplittableRandom(1), packed, operand.rows(), operand.cols()))
                            .as("%s: %s", opCase.name(), operand.name())
                            .doesNotThrowAnyException();
                }
            }
        }
    }

    @Test
    void everyOpHasALineInTheTableOfKernels() throws IOException {
        String table = Files.readString(Path.of("docs/kernels.md"));
        assertThat(Arrays.stream(Op.class.getPermittedSubclasses()).map(op -> Op.stem(op.asSubclass(Op.class))))
                .allSatisfy(op -> assertThat(table).contains("\n| `" + op + "` |"));
    }

    @Test
    void caseNamesAreUnique() {
        assertThat(OpCases.all().stream().map(OpCase::name)).doesNotHaveDuplicates();
        assertThat(Stream.of(OpCases.benchmarks(), OpCases.modelShapes())
                        .flatMap(List::stream)
                        .map(OpCase::name))
                .doesNotHaveDuplicates();
    }

    @Test
    void requiredBackendsAreAvailable() {
        String required = System.getenv("SENTEI_REQUIRE_BACKENDS");
        assertThat(AvailableBackends.providers().stream().map(Backend.Provider::name))
                .as("backends required by SENTEI_REQUIRE_BACKENDS")
                .containsAll(required == null ? List.of("reference") : List.of(required.split(",")));
    }
}

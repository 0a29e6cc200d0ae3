package org.sentei.kernel;

import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import org.assertj.core.api.InstanceOfAssertFactories;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.tensor.DType;

/** Backends hold no more memory at once than they were given. */
final class MemoryBudgetTest {
    private static final long BUDGET = 1 << 20;
    /** The device backends keep a word for themselves. */
    private static final long LARGEST = BUDGET - 64;

    private static List<String> names() {
        return AvailableBackends.names();
    }

    private static Backend open(String name) {
        return Backends.find(name).open(Backend.Options.defaults().withMemory(BUDGET));
    }

    @ParameterizedTest
    @MethodSource("names")
    void whatExceedsTheBudgetIsRefusedWithTheSizes(String name) {
        try (Backend backend = open(name);
                Scope scope = new Scope(backend)) {
            scope.matrix(DType.U8, 1, BUDGET / 2);
            assertThatThrownBy(() -> scope.matrix(DType.U8, 1, BUDGET / 2 + 1))
                    .asInstanceOf(InstanceOfAssertFactories.type(DeviceException.class))
                    .matches(e -> e.kind() == DeviceException.Kind.OUT_OF_MEMORY)
                    .matches(e -> e.backend().equals(name))
                    .extracting(Throwable::getMessage, InstanceOfAssertFactories.STRING)
                    .contains("allocating " + (BUDGET / 2 + 1) + " bytes")
                    .containsPattern(BUDGET / 2 + "|" + (BUDGET / 2 + Integer.BYTES))
                    .contains("of the " + BUDGET + " bytes");
            scope.matrix(DType.U8, 1, BUDGET / 4);
        }
    }

    @ParameterizedTest
    @MethodSource("names")
    void memoryThatIsGivenBackCanBeTakenAgainInAnySize(String name) {
        try (Backend backend = open(name)) {
            for (long bytes : new long[] {LARGEST, LARGEST / 2, LARGEST, LARGEST - 4096, LARGEST}) {
                try (Scope scope = new Scope(backend)) {
                    assertThatCode(() -> scope.matrix(DType.U8, 1, bytes)).doesNotThrowAnyException();
                }
            }
        }
    }

    @ParameterizedTest
    @MethodSource("names")
    void whatAnOpUsesBetweenItsKernelsMakesRoom(String name) {
        try (Backend backend = open(name)) {
            try (Scope scope = new Scope(backend)) {
                backend.run(new QuadraticForm(
                        scope.zeros(DType.F32, 64, 96),
                        null,
                        scope.zeros(DType.F64, 96, 96),
                        scope.zeros(DType.F64, 1, 96),
                        scope.matrix(DType.F64, 64, 2)));
                backend.sync();
            }
            try (Scope scope = new Scope(backend)) {
                assertThatCode(() -> scope.matrix(DType.U8, 1, LARGEST)).doesNotThrowAnyException();
            }
        }
    }
}

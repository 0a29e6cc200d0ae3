package org.sentei.kernel;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.tensor.DType;

/** Who owns memory, how long, on which thread; and sequences. */
class ScopeTest {
    private static List<String> backends() {
        return AvailableBackends.names();
    }

    @ParameterizedTest
    @MethodSource("backends")
    void memoryEndsWithItsScope(String name) {
        try (Backend backend = AvailableBackends.open(name)) {
            View view;
            try (Scope scope = new Scope(backend)) {
                view = scope.matrix(2, 3);
            }
            assertThatThrownBy(() -> backend.copyOut(view, MemorySegment.ofArray(new float[6])))
                    .isInstanceOf(DeviceException.class);
            assertThatThrownBy(() -> backend.run(new Activate(Activate.Function.RELU, view, null, view)))
                    .isInstanceOf(DeviceException.class);
        }
    }

    /** Sizes below, at and above those from which backends keep memory or get it otherwise; their bytes are used before. */
    @ParameterizedTest
    @MethodSource("backends")
    void zerosAreZeroWhateverLayThereBefore(String name) {
        try (Backend backend = AvailableBackends.open(name)) {
            for (long bytes : new long[] {0, 8, 1 << 16, (1 << 20) + 8, 1 << 22, (1 << 22) + 8}) {
                try (Scope scope = new Scope(backend)) {
                    byte[] ones = new byte[(int) bytes];
                    Arrays.fill(ones, (byte) -1);
                    backend.copyIn(MemorySegment.ofArray(ones), scope.matrix(DType.F64, 1, bytes / 8));
                }
                try (Scope scope = new Scope(backend)) {
                    byte[] found = new byte[(int) bytes];
                    backend.copyOut(scope.zeros(DType.F64, 1, bytes / 8), MemorySegment.ofArray(found));
                    assertThat(found).as("%d bytes", bytes).isEqualTo(new byte[(int) bytes]);
                }
            }
        }
    }

    @Test
    void aScopeOutlivesItsChildrenAndClosesOnce() {
        try (Backend backend = AvailableBackends.open("reference")) {
            Scope parent = new Scope(backend);
            Scope child = parent.child();
            assertThatThrownBy(parent::close).isInstanceOf(IllegalStateException.class);
            child.close();
            child.close();
            parent.close();
            parent.close();
            assertThatThrownBy(() -> parent.matrix(1, 1)).isInstanceOf(IllegalStateException.class);
        }
    }

    @ParameterizedTest
    @MethodSource("backends")
    void anotherThreadIsRefused(String name) throws InterruptedException {
        try (Backend backend = AvailableBackends.open(name);
                Scope scope = new Scope(backend)) {
            AtomicReference<Throwable> fromScope = new AtomicReference<>();
            AtomicReference<Throwable> fromBackend = new AtomicReference<>();
            Thread other = new Thread(() -> {
                fromScope.set(catchIt(() -> scope.matrix(1, 1)));
                fromBackend.set(catchIt(() -> backend.allocate(8)));
            });
            other.start();
            other.join();
            assertThat(fromScope.get()).isInstanceOf(WrongThreadException.class);
            assertThat(fromBackend.get()).isInstanceOf(WrongThreadException.class);
        }
    }

    private static Throwable catchIt(Runnable action) {
        try {
            action.run();
            return null;
        } catch (RuntimeException e) {
            return e;
        }
    }

    @ParameterizedTest
    @MethodSource("backends")
    void whatIsClosedOrForeignIsRefused(String name) {
        Backend backend = AvailableBackends.open(name);
        try (Backend reference = AvailableBackends.open("reference");
                Scope scope = new Scope(reference)) {
            if (!name.equals("reference")) {
                View foreign = scope.matrix(1, 1);
                assertThatThrownBy(() -> backend.copyOut(foreign, MemorySegment.ofArray(new float[1])))
                        .isInstanceOf(DeviceException.class)
                        .hasMessageContaining("another backend");
            }
        }
        backend.close();
        backend.close();
        assertThatThrownBy(() -> backend.allocate(8))
                .isInstanceOf(DeviceException.class)
                .hasMessageContaining("closed");
    }

    @ParameterizedTest
    @MethodSource("backends")
    void copiesOfTheWrongSizeAreRefused(String name) {
        try (Backend backend = AvailableBackends.open(name);
                Scope scope = new Scope(backend)) {
            View view = scope.matrix(2, 3);
            assertThatThrownBy(() -> backend.copyIn(MemorySegment.ofArray(new float[5]), view))
                    .isInstanceOf(DeviceException.class)
                    .hasMessageContaining("20 bytes instead of 24");
        }
    }

    @ParameterizedTest
    @MethodSource("backends")
    void aSequenceRunsItsOpsInOrderAsOftenAsAsked(String name) {
        try (Backend backend = AvailableBackends.open(name);
                Scope scope = new Scope(backend)) {
            View one = scope.matrix(1, 1);
            View sum = scope.matrix(1, 1);
            View total = scope.matrix(1, 1);
            backend.copyIn(MemorySegment.ofArray(new float[] {1}), one);
            backend.copyIn(MemorySegment.ofArray(new float[] {0}), sum);
            backend.copyIn(MemorySegment.ofArray(new float[] {0}), total);
            // sum grows by one, then its square is added: 1 + 4 + 9 + 16.
            try (Sequence sequence = backend.prepare(List.of(
                    new Gemm(one, one, false, null, sum, true), new Gemm(sum, sum, false, null, total, true)))) {
                assertThat(sequence.ops()).hasSize(2);
                backend.run(sequence, 4);
                backend.sync();
            }
            float[] result = new float[1];
            backend.copyOut(total, MemorySegment.ofArray(result));
            assertThat(result).containsExactly(30);
        }
    }

    @Test
    void viewsStayInsideTheirBuffer() {
        try (Backend backend = AvailableBackends.open("reference");
                Scope scope = new Scope(backend)) {
            View view = scope.matrix(4, 6);
            View inner = view.rows(1, 3).cols(2, 5);
            assertThat(inner.rows()).isEqualTo(2);
            assertThat(inner.stride()).isEqualTo(6);
            assertThat(inner.span()).isEqualTo(9 * Float.BYTES);
            assertThat(inner.overlaps(view)).isTrue();
            assertThat(view.rows(0, 1).overlaps(view.rows(1, 2))).isFalse();
            assertThat(view.reshape(8, 3).cols()).isEqualTo(3);
            assertThatThrownBy(() -> inner.reshape(3, 2)).isInstanceOf(IllegalArgumentException.class);
            assertThatThrownBy(() -> view.rows(2, 5)).isInstanceOf(IndexOutOfBoundsException.class);
            assertThatThrownBy(() -> new View(view.buffer(), 4, 4, 6, 6, DType.F32))
                    .isInstanceOf(IllegalArgumentException.class);
            assertThatThrownBy(() -> new View(view.buffer(), 2, 1, 1, 1, DType.F32))
                    .isInstanceOf(IllegalArgumentException.class);
            assertThatThrownBy(() -> new View(view.buffer(), 0, 1L << 40, 1L << 40, 1L << 40, DType.F32))
                    .isInstanceOf(ArithmeticException.class);
        }
    }
}

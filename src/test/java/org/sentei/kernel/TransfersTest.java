package org.sentei.kernel;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.tensor.DType;

/** Copies that begin early, on every backend: the same content, within the same budget, whether they run beside ops or not. */
final class TransfersTest {
    private static final long BUDGET = 1 << 20;
    private static final int LARGE = 400_000;

    private static List<String> names() {
        return AvailableBackends.names();
    }

    private static Backend open(String name) {
        return Backends.find(name).open(Backend.Options.defaults().withMemory(BUDGET));
    }

    private static MemorySegment filled(Arena arena, int bytes, int first) {
        MemorySegment memory = arena.allocate(bytes, 64);
        for (int i = 0; i < bytes; i++) {
            memory.set(ValueLayout.JAVA_BYTE, i, (byte) (first + i * 31 / 7));
        }
        return memory;
    }

    private static void assertContent(Scope scope, View view, MemorySegment expected, Arena arena) {
        MemorySegment read = arena.allocate(view.bytes());
        scope.backend().copyOut(view, read);
        assertThat(read.mismatch(expected)).isEqualTo(-1);
    }

    @ParameterizedTest
    @MethodSource("names")
    void whatIsUploadedArrivesInAnyOrderOfTaking(String name) {
        try (Arena arena = Arena.ofShared();
                Backend backend = open(name);
                Scope scope = new Scope(backend)) {
            List<MemorySegment> sources =
                    List.of(filled(arena, 1, 3), filled(arena, 70_001, 4), filled(arena, 0, 0), filled(arena, 4096, 5));
            List<Upload> uploads = sources.stream().map(backend::upload).toList();
            for (int i = sources.size() - 1; i >= 0; i--) {
                View view = scope.uploaded(
                        uploads.get(i), DType.U8, 1, sources.get(i).byteSize());
                assertContent(scope, view, sources.get(i), arena);
            }
            assertThat(uploads).noneMatch(Upload::isUnderway);
            assertThatThrownBy(() -> uploads.getFirst().take()).isInstanceOf(IllegalStateException.class);
            uploads.forEach(Upload::close);
        }
    }

    @ParameterizedTest
    @MethodSource("names")
    void anUploadCountsWhileItIsUnderwayAndGivesWayToWhatIsAllocated(String name) {
        try (Arena arena = Arena.ofShared();
                Backend backend = open(name);
                Scope scope = new Scope(backend)) {
            MemorySegment first = filled(arena, LARGE, 1);
            MemorySegment second = filled(arena, LARGE, 2);
            try (Upload one = backend.upload(first);
                    Upload two = backend.upload(second);
                    Upload three = backend.upload(filled(arena, LARGE, 3))) {
                assertThat(one.isUnderway()).isEqualTo(backend.copiesBeside());
                assertThat(two.isUnderway()).isEqualTo(backend.copiesBeside());
                assertThat(three.isUnderway()).as("beyond the budget").isFalse();

                try (Scope other = scope.child()) {
                    other.matrix(DType.U8, 1, BUDGET - LARGE - 64);
                    assertThat(one.isUnderway()).as("gave way").isFalse();
                    assertThat(two.isUnderway()).isEqualTo(backend.copiesBeside());
                }
                try (Scope other = scope.child()) {
                    other.matrix(DType.U8, 1, BUDGET - 64);
                    assertThat(two.isUnderway()).as("gave way").isFalse();
                }
                assertContent(scope, scope.uploaded(two, DType.U8, 1, LARGE), second, arena);
                assertContent(scope, scope.uploaded(one, DType.U8, 1, LARGE), first, arena);
            }
        }
    }

    @ParameterizedTest
    @MethodSource("names")
    void whatWasUploadedIsPartOfTheBudgetWhenItIsTaken(String name) {
        try (Arena arena = Arena.ofShared();
                Backend backend = open(name);
                Scope scope = new Scope(backend)) {
            Upload upload = backend.upload(filled(arena, LARGE, 1));
            scope.uploaded(upload, DType.U8, 1, LARGE);
            assertThatThrownBy(() -> scope.matrix(DType.U8, 1, BUDGET - LARGE + 1))
                    .isInstanceOf(DeviceException.class)
                    .hasMessageContaining("of the " + BUDGET + " bytes");
            Upload closed = backend.upload(filled(arena, LARGE, 1));
            closed.close();
            scope.matrix(DType.U8, 1, BUDGET - LARGE - 64);
        }
    }

    @ParameterizedTest
    @MethodSource("names")
    void aDownloadHasWhatOpsBeforeItLeftWhateverBecomesOfTheMemory(String name) {
        try (Arena arena = Arena.ofShared();
                Backend backend = open(name);
                Scope scope = new Scope(backend)) {
            int cols = 5000;
            MemorySegment target = backend.allocateHost(8L * cols * Float.BYTES, arena);
            Download[] downloads = new Download[8];
            View sum = scope.zeros(DType.F32, 1, cols);
            View one = scope.matrix(1, cols);
            backend.copyIn(MemorySegment.ofArray(ones(cols)), one);
            View unit = scope.matrix(1, 1);
            backend.copyIn(MemorySegment.ofArray(new float[] {1}), unit);
            for (int i = 0; i < downloads.length; i++) {
                MemorySegment part = target.asSlice((long) i * cols * Float.BYTES, (long) cols * Float.BYTES);
                try (Scope local = scope.child()) {
                    backend.run(new Gemm(unit, one, false, null, sum, true));
                    View copy = local.matrix(1, cols);
                    backend.run(new Cast(sum, copy, false));
                    downloads[i] = backend.download(i % 2 == 0 ? copy : sum, part);
                }
            }
            for (int i = downloads.length - 1; i >= 0; i--) {
                downloads[i].await();
                downloads[i].await();
                for (int j = 0; j < cols; j++) {
                    assertThat(target.getAtIndex(ValueLayout.JAVA_FLOAT, (long) i * cols + j))
                            .isEqualTo(i + 1);
                }
            }
        }
    }

    private static float[] ones(int count) {
        float[] ones = new float[count];
        Arrays.fill(ones, 1);
        return ones;
    }
}

package org.sentei.backend.opencl;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assumptions.assumeThat;

import java.lang.foreign.MemorySegment;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.sentei.backend.gpu.GpuBackend;
import org.sentei.backend.gpu.KernelSource;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Buffer;
import org.sentei.kernel.Ceilings;
import org.sentei.kernel.CountValues;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.Embedding;
import org.sentei.kernel.InverseCholesky;
import org.sentei.kernel.MemoryBudget;
import org.sentei.kernel.OpCases;
import org.sentei.kernel.QuadraticForm;
import org.sentei.kernel.Scope;
import org.sentei.kernel.Sequence;
import org.sentei.kernel.View;
import org.sentei.tensor.DType;

/** What the conformance cases do not see: failures, prepared sequences, devices without fp64. */
class OpenClDeviceTest {
    @BeforeEach
    void thereIsADevice() {
        assumeThat(AvailableBackends.names()).contains("opencl");
    }

    private static Backend open() {
        return new OpenClProvider().open(Backend.Options.defaults());
    }

    @Test
    void moreMemoryThanThereIsIsAnErrorWithItsSize() {
        try (Backend backend = open()) {
            assertThatThrownBy(() -> backend.allocate(1L << 50))
                    .isInstanceOfSatisfying(
                            DeviceException.class,
                            failure -> assertThat(failure.kind()).isEqualTo(DeviceException.Kind.OUT_OF_MEMORY))
                    .hasMessageContaining(String.valueOf(1L << 50))
                    .hasMessageContaining("CL_");
            try (Buffer buffer = backend.allocate(64)) {
                assertThat(buffer.bytes()).isEqualTo(64);
            }
        }
    }

    @Test
    void theDeviceIsMeasured() {
        try (Backend backend = open()) {
            Ceilings ceilings = backend.ceilings().orElseThrow();

            // What no processor or GPU falls short of, or exceeds: a figure beyond would be one of the units mistaken.
            assertThat(ceilings.readBandwidth()).isBetween(1e8, 1e14);
            assertThat(ceilings.copyBandwidth()).isBetween(1e8, 1e14);
            assertThat(ceilings.operations()).isBetween(1e8, 1e16);
        }
    }

    @Test
    void whatTheCompilerSaysIsInTheError() {
        OpenClDevice device = new OpenClDevice(
                OpenClLibrary.device(0),
                file -> KernelSource.of(file) + "\nKERNEL(broken)(int x) { no_such_name = x; }\n",
                MemoryBudget.UNLIMITED);
        try (Backend backend = new GpuBackend(device);
                Scope scope = new Scope(backend)) {
            CountValues op = new CountValues(scope.matrix(3, 5), scope.matrix(DType.I64, 1, 3));
            assertThatThrownBy(() -> backend.run(op))
                    .isInstanceOfSatisfying(
                            DeviceException.class,
                            failure -> assertThat(failure.kind()).isEqualTo(DeviceException.Kind.COMPILE))
                    .hasMessageContaining("count_values")
                    .hasMessageContaining("no_such_name");
        }
    }

    @Test
    void anIdOutsideOfTheTableFailsWhenWaitingAndOnlyOnce() {
        try (Backend backend = open();
                Scope scope = new Scope(backend)) {
            View table = scope.matrix(3, 4);
            View ids = scope.matrix(DType.I32, 1, 2);
            View output = scope.matrix(2, 4);
            backend.copyIn(MemorySegment.ofArray(new float[12]), table);
            for (int wrong : new int[] {3, -1, Integer.MAX_VALUE, Integer.MIN_VALUE}) {
                backend.copyIn(MemorySegment.ofArray(new int[] {0, wrong}), ids);
                backend.run(new Embedding(table, ids, output, false));
                assertThatThrownBy(backend::sync)
                        .isInstanceOfSatisfying(
                                DeviceException.class,
                                failure -> assertThat(failure.kind()).isEqualTo(DeviceException.Kind.LAUNCH))
                        .hasMessageContaining("table of 3");
                backend.sync();
            }
            Sequence sequence = backend.prepare(List.of(new Embedding(table, ids, output, false)));
            backend.run(sequence, 1);
            assertThatThrownBy(() -> backend.copyOut(output, MemorySegment.ofArray(new float[8])))
                    .isInstanceOf(DeviceException.class)
                    .hasMessageContaining("table of 3");
            backend.copyIn(MemorySegment.ofArray(new int[] {0, 2}), ids);
            backend.run(sequence, 2);
            backend.sync();
            sequence.close();
            assertThatThrownBy(() -> backend.run(sequence, 1)).isInstanceOf(DeviceException.class);
        }
    }

    @Test
    void aSequenceKeepsItsScratchWhateverRunsInBetween() {
        try (Backend backend = open();
                Scope scope = new Scope(backend)) {
            int size = 40;
            View gram = scope.matrix(DType.F64, size, size);
            double[] diagonal = new double[size * size];
            for (int i = 0; i < size; i++) {
                diagonal[i * (size + 1)] = i + 1;
            }
            backend.copyIn(MemorySegment.ofArray(diagonal), gram);
            View factor = scope.matrix(size, size);
            View status = scope.matrix(DType.I64, 1, 1);
            InverseCholesky inverse = new InverseCholesky(gram, 0, factor, status);
            View a = scope.matrix(300, size);
            View sum = scope.matrix(DType.F64, 1, size);
            backend.copyIn(MemorySegment.ofArray(new float[300 * size]), a);
            backend.copyIn(MemorySegment.ofArray(new double[size]), sum);
            QuadraticForm form = new QuadraticForm(a, null, gram, sum, scope.matrix(DType.F64, 300, 2));
            float[] first = new float[size * size];
            float[] second = new float[size * size];
            try (Sequence sequence = backend.prepare(List.of(inverse, form, inverse))) {
                backend.run(sequence, 1);
                backend.copyOut(factor, MemorySegment.ofArray(first));
                backend.run(form);
                backend.run(sequence, 3);
                backend.copyOut(factor, MemorySegment.ofArray(second));
            }
            assertThat(second).isEqualTo(first);
            assertThat(first[0]).isEqualTo(1);
            assertThat(first[3 * size + 3]).isEqualTo(0.5f);
        }
    }

    @Test
    void withoutFp64OpsThatNeedItAreNotSupported() {
        OpenClLibrary.Found found = OpenClLibrary.device(0);
        OpenClLibrary.Found lesser = new OpenClLibrary.Found(
                found.id(),
                found.platform(),
                found.type(),
                found.name(),
                found.version(),
                found.driver(),
                found.memoryBytes(),
                false,
                found.unusable());
        try (Backend backend = new GpuBackend(new OpenClDevice(lesser));
                Scope scope = new Scope(backend)) {
            assertThat(backend.supports(OpCases.example(InverseCholesky.class))).isFalse();
            assertThat(backend.supports(OpCases.example(CountValues.class))).isTrue();
            View gram = scope.matrix(DType.F64, 2, 2);
            assertThatThrownBy(() -> backend.run(
                            new InverseCholesky(gram, 0, scope.matrix(2, 2), scope.matrix(DType.I64, 1, 1))))
                    .isInstanceOfSatisfying(
                            DeviceException.class,
                            failure -> assertThat(failure.kind()).isEqualTo(DeviceException.Kind.UNSUPPORTED))
                    .hasMessageContaining("fp64");
        }
    }

    @Test
    void codesAreNamedAsInTheHeaders() {
        DeviceException failure = OpenClException.of("clEnqueueNDRangeKernel of x", -54);
        assertThat(failure.kind()).isEqualTo(DeviceException.Kind.LAUNCH);
        assertThat(failure).hasMessageContaining("-54").hasMessageContaining("CL_INVALID_WORK_GROUP_SIZE");
        assertThat(OpenClException.of("clCreateBuffer of 1 bytes", -5).kind())
                .isEqualTo(DeviceException.Kind.OUT_OF_MEMORY);
        assertThat(OpenClException.of("clFinish", -5).kind()).isEqualTo(DeviceException.Kind.LAUNCH);
        assertThat(OpenClException.of("clFinish", -36).kind()).isEqualTo(DeviceException.Kind.LOST);
        assertThat(OpenClException.of("clFinish", -12345).kind()).isEqualTo(DeviceException.Kind.INTERNAL);
    }
}

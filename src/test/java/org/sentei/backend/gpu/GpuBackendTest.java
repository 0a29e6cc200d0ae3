package org.sentei.backend.gpu;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.sentei.kernel.Backend;
import org.sentei.kernel.InverseCholesky;
import org.sentei.kernel.Scope;
import org.sentei.kernel.Sequence;
import org.sentei.kernel.View;
import org.sentei.tensor.DType;

/** What a backend asks of its device, whichever it is. */
class GpuBackendTest {
    private final RecordingDevice device = new RecordingDevice();

    @Test
    void littleMemoryBetweenKernelsIsKeptAndMuchIsGivenBackAtOnce() {
        try (Backend backend = new GpuBackend(device);
                Scope scope = new Scope(backend)) {
            InverseCholesky little = factorization(scope, 100);
            InverseCholesky much = factorization(scope, 3000);
            long operands = device.bytes();

            backend.run(little);
            long kept = device.bytes() - operands;
            assertThat(kept).isGreaterThanOrEqualTo(2 * 100 * 100 * Double.BYTES);
            backend.run(little);
            assertThat(device.bytes()).isEqualTo(operands + kept);
            backend.run(much);
            assertThat(device.bytes()).isEqualTo(operands);
            backend.run(little);
            assertThat(device.bytes()).isEqualTo(operands + kept);
        }
    }

    @Test
    void aSequenceKeepsItsMemoryUntilItCloses() {
        try (Backend backend = new GpuBackend(device);
                Scope scope = new Scope(backend)) {
            InverseCholesky much = factorization(scope, 3000);
            long operands = device.bytes();

            try (Sequence sequence = backend.prepare(List.of(much))) {
                backend.run(sequence, 2);
                assertThat(device.bytes()).isGreaterThanOrEqualTo(operands + 2L * 3000 * 3000 * Double.BYTES);
            }
            assertThat(device.bytes()).isEqualTo(operands);
        }
    }

    private static InverseCholesky factorization(Scope scope, long size) {
        View gram = scope.matrix(DType.F64, size, size);
        View factor = scope.matrix(size, size);
        return new InverseCholesky(gram, 0.01, factor, scope.matrix(DType.I64, 1, 1));
    }
}

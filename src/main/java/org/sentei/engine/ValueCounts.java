package org.sentei.engine;

import java.lang.foreign.MemorySegment;
import org.sentei.kernel.CountValues;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.tensor.DType;

/**
 * What some weights hold.
 *
 * @param zeros of either sign
 * @param notFinite NaNs and infinities
 */
record ValueCounts(long zeros, long notFinite) {
    /** Counts an F32 matrix. */
    static ValueCounts of(View weights, Scope scope) {
        long[] values = new long[3];
        try (Scope local = scope.child()) {
            View counts = local.matrix(DType.I64, 1, values.length);
            local.backend().run(new CountValues(weights, counts));
            local.backend().copyOut(counts, MemorySegment.ofArray(values));
        }
        return new ValueCounts(values[0], values[1] + values[2]);
    }
}

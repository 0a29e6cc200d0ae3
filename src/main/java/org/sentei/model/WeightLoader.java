package org.sentei.model;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Cast;
import org.sentei.kernel.CountValues;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.tensor.DType;
import org.sentei.tensor.Tensor;

/** Brings tensors onto the device as F32 matrices; {@link #checkFinite} refuses those that hold NaN or infinity. */
final class WeightLoader {
    private static final int COUNTS = 3;

    private final Scope scope;
    private final Backend backend;
    private final List<String> names = new ArrayList<>();
    private final List<View> views = new ArrayList<>();

    /** @param scope owner of what is loaded */
    WeightLoader(Scope scope) {
        this.scope = scope;
        this.backend = scope.backend();
    }

    /** The tensor as rows x cols. */
    View matrix(Tensor tensor, long rows, long cols) {
        return load(tensor, tensor.data(), rows, cols, false);
    }

    /** A tensor of cols x rows as rows x cols. */
    View transposed(Tensor tensor, long rows, long cols) {
        return load(tensor, tensor.data(), rows, cols, true);
    }

    /** Some rows of a table, in this order. */
    View rows(Tensor table, List<Integer> rows, long cols) {
        long rowBytes = table.dtype().bytesFor(cols);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment gathered = arena.allocate(rowBytes * rows.size(), Double.BYTES);
            for (int i = 0; i < rows.size(); i++) {
                MemorySegment.copy(table.data(), rows.get(i) * rowBytes, gathered, i * rowBytes, rowBytes);
            }
            return load(table, gathered, rows.size(), cols, false);
        }
    }

    private View load(Tensor tensor, MemorySegment data, long rows, long cols, boolean transpose) {
        View target = scope.matrix(rows, cols);
        if (tensor.dtype() == DType.F32 && !transpose) {
            backend.copyIn(data, target);
        } else {
            try (Scope staging = scope.child()) {
                View raw = transpose
                        ? staging.matrix(tensor.dtype(), cols, rows)
                        : staging.matrix(tensor.dtype(), rows, cols);
                backend.copyIn(data, raw);
                backend.run(new Cast(raw, target, transpose));
            }
        }
        tensor.release();
        names.add(tensor.name());
        views.add(target);
        return target;
    }

    /**
     * Checks everything loaded so far.
     *
     * @throws ModelException naming the first tensor with a value that is not finite
     */
    void checkFinite() {
        if (views.isEmpty()) {
            return;
        }
        try (Scope scratch = scope.child();
                Arena arena = Arena.ofConfined()) {
            View counts = scratch.matrix(DType.I64, views.size(), COUNTS);
            for (int i = 0; i < views.size(); i++) {
                backend.run(new CountValues(views.get(i), counts.rows(i, i + 1)));
            }
            MemorySegment host = arena.allocate(counts.bytes(), Long.BYTES);
            backend.copyOut(counts, host);
            for (int i = 0; i < views.size(); i++) {
                long nans = host.getAtIndex(ValueLayout.JAVA_LONG, (long) i * COUNTS + 1);
                long infinities = host.getAtIndex(ValueLayout.JAVA_LONG, (long) i * COUNTS + 2);
                if (nans != 0 || infinities != 0) {
                    throw new ModelException("tensor " + names.get(i) + " holds " + nans + " NaN and " + infinities
                            + " infinite values; the file is damaged or its training diverged");
                }
            }
        }
    }
}

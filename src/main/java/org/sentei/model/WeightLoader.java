package org.sentei.model;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Cast;
import org.sentei.kernel.CountValues;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.Scope;
import org.sentei.kernel.Upload;
import org.sentei.kernel.View;
import org.sentei.tensor.DType;
import org.sentei.tensor.Tensor;

/** Brings tensors onto the device as F32 matrices; {@link #checkFinite} refuses those that hold NaN or infinity. */
final class WeightLoader {
    private static final int COUNTS = 3;

    private final Scope scope;
    private final Backend backend;
    private final Uploads uploads;
    private final List<String> names = new ArrayList<>();
    private final List<View> views = new ArrayList<>();

    /** @param scope owner of what is loaded */
    WeightLoader(Scope scope) {
        this(scope, Uploads.none());
    }

    /** As above, for tensors some of which are on their way. */
    WeightLoader(Scope scope, Uploads uploads) {
        this.scope = scope;
        this.backend = scope.backend();
        this.uploads = uploads;
    }

    /** The tensor as rows x cols. */
    View matrix(Tensor tensor, long rows, long cols) {
        return load(tensor, uploads.of(tensor, backend), rows, cols, false);
    }

    /** A tensor of cols x rows as rows x cols. */
    View transposed(Tensor tensor, long rows, long cols) {
        return load(tensor, uploads.of(tensor, backend), rows, cols, true);
    }

    /** Some rows of a table, in this order. */
    View rows(Tensor table, List<Integer> rows, long cols) {
        long rowBytes = table.dtype().bytesFor(cols);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment gathered = arena.allocate(rowBytes * rows.size(), Double.BYTES);
            for (int i = 0; i < rows.size(); i++) {
                MemorySegment.copy(table.data(), rows.get(i) * rowBytes, gathered, i * rowBytes, rowBytes);
            }
            return load(table, backend.upload(gathered), rows.size(), cols, false);
        }
    }

    private View load(Tensor tensor, Upload upload, long rows, long cols, boolean transpose) {
        try {
            return bring(tensor, upload, rows, cols, transpose);
        } catch (DeviceException e) {
            if (e.kind() != DeviceException.Kind.OUT_OF_MEMORY) {
                throw e;
            }
            throw new DeviceException(
                    e.backend(),
                    "bringing tensor " + tensor.name() + " (" + rows + "x" + cols + ", "
                            + DType.F32.bytesFor(rows * cols) + " bytes as F32"
                            + (tensor.dtype() == DType.F32
                                    ? ""
                                    : " beside " + tensor.data().byteSize() + " as " + tensor.dtype())
                            + ") to the device",
                    "all weights of a block, or of the output layer, must fit at once: allow more with --device-memory, or"
                            + " take a device with more ("
                            + e.getMessage() + ")",
                    e.kind(),
                    e);
        }
    }

    private View bring(Tensor tensor, Upload upload, long rows, long cols, boolean transpose) {
        View target;
        try (upload) {
            if (tensor.dtype() == DType.F32 && !transpose) {
                target = scope.uploaded(upload, DType.F32, rows, cols);
            } else {
                target = scope.matrix(rows, cols);
                try (Scope staging = scope.child()) {
                    View raw = transpose
                            ? staging.uploaded(upload, tensor.dtype(), cols, rows)
                            : staging.uploaded(upload, tensor.dtype(), rows, cols);
                    backend.run(new Cast(raw, target, transpose));
                }
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

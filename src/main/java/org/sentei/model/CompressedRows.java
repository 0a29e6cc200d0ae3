package org.sentei.model;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import org.sentei.kernel.Aggregate;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.tensor.DType;

/** A sparse matrix in compressed rows, to be multiplied by dense ones. Elements of a row are in the order they were added. */
final class CompressedRows {
    private final long[] starts;
    private int[] cols = new int[16];
    private float[] values = new float[16];
    private int row;
    private int size;

    /** No elements yet; rows are filled one after the other. */
    CompressedRows(int rows) {
        starts = new long[rows + 1];
    }

    /** Adds an element to the row at hand; 0 is left out. */
    void add(int col, float value) {
        if (value == 0) {
            return;
        }
        if (size == cols.length) {
            cols = Arrays.copyOf(cols, 2 * size);
            values = Arrays.copyOf(values, 2 * size);
        }
        cols[size] = col;
        values[size++] = value;
    }

    /** Goes on to the next row. */
    void endRow() {
        starts[++row] = size;
    }

    /** The matrix on a device. */
    Resident upload(Scope scope) {
        if (row != starts.length - 1) {
            throw new IllegalStateException("row " + row + " of " + (starts.length - 1) + " is not ended");
        }
        View first = scope.matrix(DType.I64, 1, starts.length);
        View where = scope.matrix(DType.I32, 1, size);
        View what = scope.matrix(1, size);
        scope.backend().copyIn(MemorySegment.ofArray(starts), first);
        scope.backend().copyIn(MemorySegment.ofArray(Arrays.copyOf(cols, size)), where);
        scope.backend().copyIn(MemorySegment.ofArray(Arrays.copyOf(values, size)), what);
        return new Resident(first, where, what);
    }

    /** A matrix on a device. */
    record Resident(View starts, View cols, View values) {
        /** {@code y} = this times {@code x}. */
        Aggregate times(View x, View y) {
            return new Aggregate(starts, cols, values, x, y);
        }
    }
}

package org.sentei.backend.reference;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.sentei.kernel.HostBuffer;
import org.sentei.kernel.Levels;
import org.sentei.kernel.View;
import org.sentei.tensor.Floats;

/** A view as a matrix of numbers, so that the loops of {@link ReferenceBackend} read like formulas. */
final class Matrix {
    private final View view;
    private final MemorySegment data;

    Matrix(View view) {
        this.view = view;
        this.data = HostBuffer.segment(ReferenceBackend.NAME, view);
    }

    long rows() {
        return view.rows();
    }

    long cols() {
        return view.cols();
    }

    /** Element (row, col) of a floating matrix, exactly. */
    double get(long row, long col) {
        return Floats.get(view.dtype(), data, index(row, col));
    }

    /** Rounds to the element type. */
    void set(long row, long col, double value) {
        Floats.set(view.dtype(), data, index(row, col), value);
    }

    void add(long row, long col, double value) {
        set(row, col, get(row, col) + value);
    }

    byte getByte(long row, long col) {
        return data.get(ValueLayout.JAVA_BYTE, index(row, col));
    }

    /** Element (row, col) of a U8 or I8 matrix, counted from the lowest value of its type. */
    int getCounted(long row, long col) {
        return (getByte(row, col) - Levels.lowest(view.dtype())) & 0xff;
    }

    void setByte(long row, long col, int value) {
        data.set(ValueLayout.JAVA_BYTE, index(row, col), (byte) value);
    }

    int getInt(long row, long col) {
        return data.getAtIndex(ValueLayout.JAVA_INT, index(row, col));
    }

    void setInt(long row, long col, int value) {
        data.setAtIndex(ValueLayout.JAVA_INT, index(row, col), value);
    }

    long getLong(long row, long col) {
        return data.getAtIndex(ValueLayout.JAVA_LONG, index(row, col));
    }

    void setLong(long row, long col, long value) {
        data.setAtIndex(ValueLayout.JAVA_LONG, index(row, col), value);
    }

    private long index(long row, long col) {
        return row * view.stride() + col;
    }
}

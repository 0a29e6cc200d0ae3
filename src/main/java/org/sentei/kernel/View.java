package org.sentei.kernel;

import org.sentei.tensor.DType;

/**
 * A row-major matrix inside a {@link Buffer}.
 *
 * @param offset first byte of element (0, 0) in the buffer
 * @param stride elements from one row to the next, at least {@code cols}
 */
public record View(Buffer buffer, long offset, long rows, long cols, long stride, DType dtype) {
    /** Checks that the view is well formed and lies in its buffer; otherwise an {@link IllegalArgumentException}. */
    public View {
        if (offset < 0 || rows < 0 || cols < 0 || stride < cols) {
            throw new IllegalArgumentException(
                    "view of " + rows + "x" + cols + " with stride " + stride + " at byte " + offset + " is malformed");
        }
        if (offset % dtype.bytes() != 0) {
            throw new IllegalArgumentException(
                    "view offset " + offset + " is no multiple of the " + dtype + " element size");
        }
        long end = Math.addExact(offset, span(rows, cols, stride, dtype));
        if (end > buffer.bytes()) {
            throw new IllegalArgumentException("view of " + rows + "x" + cols + " " + dtype + " ends at byte " + end
                    + " of a buffer of " + buffer.bytes());
        }
    }

    /** A densely packed view from the start of the buffer. */
    public static View of(Buffer buffer, DType dtype, long rows, long cols) {
        return new View(buffer, 0, rows, cols, cols, dtype);
    }

    private static long span(long rows, long cols, long stride, DType dtype) {
        if (rows == 0 || cols == 0) {
            return 0;
        }
        long elements = Math.addExact(Math.multiplyExact(rows - 1, stride), cols);
        return Math.multiplyExact(elements, dtype.bytes());
    }

    /** {@code rows * cols}. */
    public long elements() {
        return rows * cols;
    }

    /** Bytes of the elements alone, without gaps between rows. */
    public long bytes() {
        return elements() * dtype.bytes();
    }

    /** Bytes from the first element to the end of the last, gaps between rows included. */
    public long span() {
        return span(rows, cols, stride, dtype);
    }

    /** Whether no gap lies between rows. */
    public boolean isPacked() {
        return stride == cols || rows <= 1;
    }

    /** Rows {@code from} to {@code to} (exclusive) of this view. */
    public View rows(long from, long to) {
        if (from < 0 || to < from || to > rows) {
            throw new IndexOutOfBoundsException("rows " + from + " to " + to + " of a view with " + rows);
        }
        return new View(buffer, offset + from * stride * dtype.bytes(), to - from, cols, stride, dtype);
    }

    /** Columns {@code from} to {@code to} (exclusive) of this view. */
    public View cols(long from, long to) {
        if (from < 0 || to < from || to > cols) {
            throw new IndexOutOfBoundsException("columns " + from + " to " + to + " of a view with " + cols);
        }
        return new View(buffer, offset + from * dtype.bytes(), rows, to - from, stride, dtype);
    }

    /** The same elements as a matrix of other proportions; only for packed views. */
    public View reshape(long newRows, long newCols) {
        if (!isPacked() || Math.multiplyExact(newRows, newCols) != elements()) {
            throw new IllegalArgumentException("cannot reshape a " + (isPacked() ? "" : "strided ") + "view of " + rows
                    + "x" + cols + " to " + newRows + "x" + newCols);
        }
        return new View(buffer, offset, newRows, newCols, newCols, dtype);
    }

    /** True when both views lie in one buffer and their byte ranges intersect. */
    public boolean overlaps(View other) {
        return buffer.equals(other.buffer) && offset < other.offset + other.span() && other.offset < offset + span();
    }

    /** For example {@code F32 64x4096}. */
    @Override
    public String toString() {
        return dtype + " " + rows + "x" + cols + (isPacked() ? "" : " stride " + stride);
    }
}

package org.sentei.tensor;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/**
 * A tensor stored as the elements that are kept and one bit an element that tells which.
 *
 * <p>The tensor counts as a matrix whose columns are its last dimension. In the mask a set bit means "kept" (in a
 * {@link BitMask} it means "pruned"); column {@code c} of a row is bit {@code c % 8} of the row's byte {@code c / 8}, every
 * row starts with a new byte, and the unused high bits of its last byte are 0. The kept elements follow one another in
 * row-major order, bit by bit as they were. At a sparsity of one half, a bf16 tensor takes 9/16 of its dense size.
 *
 * @param mask {@link #maskBytes} bytes
 * @param values the kept elements, packed
 */
public record BitmaskTensor(String name, DType dtype, Shape shape, MemorySegment mask, MemorySegment values) {
    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    /**
     * Checks that mask and values belong together; reads the whole mask.
     *
     * @throws IllegalArgumentException for a mask of another size than the shape asks for, bits beyond the last column, or
     *     as many set bits as there are not values
     * @throws IllegalStateException for types narrower than a byte
     */
    public BitmaskTensor {
        long expected = maskBytes(shape);
        if (mask.byteSize() != expected) {
            throw new IllegalArgumentException("the mask of " + name + " has " + mask.byteSize() + " bytes; " + shape
                    + " elements need " + expected);
        }
        long cols = cols(shape);
        long rowBytes = rowBytes(shape);
        if (cols % 8 != 0) {
            for (long last = rowBytes - 1; last < expected; last += rowBytes) {
                if ((mask.get(ValueLayout.JAVA_BYTE, last) & 0xff) >>> (cols % 8) != 0) {
                    throw new IllegalArgumentException(
                            "the mask of " + name + " has bits beyond column " + cols + " in row " + last / rowBytes);
                }
            }
        }
        long kept = count(mask, 0, expected);
        if (values.byteSize() != dtype.bytes() * kept) {
            throw new IllegalArgumentException("the mask of " + name + " keeps " + kept + " " + dtype
                    + " elements, which are " + dtype.bytes() * kept + " bytes; its values have " + values.byteSize());
        }
        mask = mask.asReadOnly();
        values = values.asReadOnly();
    }

    /** Bytes of the mask of a tensor of this shape. */
    public static long maskBytes(Shape shape) {
        return Math.multiplyExact(rows(shape), rowBytes(shape));
    }

    /**
     * Keeps every element that has a set bit: what is dropped is all zeros in memory (a floating +0, not -0), so
     * {@link #unpack} gives back the same bytes.
     *
     * @param allocator gives the memory of mask and values
     * @throws IllegalStateException for types narrower than a byte
     */
    public static BitmaskTensor pack(Tensor dense, SegmentAllocator allocator) {
        Shape shape = dense.shape();
        MemorySegment data = dense.data();
        int width = dense.dtype().bytes();
        long cols = cols(shape);
        long rowBytes = rowBytes(shape);
        MemorySegment mask = allocator.allocate(maskBytes(shape));
        long kept = 0;
        for (long at = 0; at < mask.byteSize(); at++) {
            long first = at / rowBytes * cols + at % rowBytes * 8;
            int bits = keptOf(data, width, first, (int) Math.min(8, cols - at % rowBytes * 8));
            mask.set(ValueLayout.JAVA_BYTE, at, (byte) bits);
            kept += Integer.bitCount(bits);
        }
        MemorySegment values = allocator.allocate(Math.multiplyExact(kept, width));
        move(shape, mask, (element, index) -> copy(width, data, element, values, index));
        return new BitmaskTensor(dense.name(), dense.dtype(), shape, mask, values);
    }

    /**
     * How many elements {@link #pack} would keep.
     *
     * @throws IllegalStateException for types narrower than a byte
     */
    public static long keptOf(Tensor dense) {
        int width = dense.dtype().bytes();
        long elements = dense.shape().elements();
        long kept = 0;
        for (long first = 0; first < elements; first += 8) {
            kept += Integer.bitCount(keptOf(dense.data(), width, first, (int) Math.min(8, elements - first)));
        }
        return kept;
    }

    /**
     * The dense tensor, what was dropped as zero bits.
     *
     * @param allocator gives its memory
     */
    public Tensor unpack(SegmentAllocator allocator) {
        int width = dtype.bytes();
        MemorySegment data =
                allocator.allocate(dtype.bytesFor(shape.elements())).fill((byte) 0);
        move(shape, mask, (element, index) -> copy(width, values, index, data, element));
        return new Tensor(name, dtype, shape, data);
    }

    /** Rows of the matrix that the tensor counts as; 0 without elements. */
    public long rows() {
        return rows(shape);
    }

    /** Columns of the matrix that the tensor counts as: the last dimension, 1 for a scalar. */
    public long cols() {
        return cols(shape);
    }

    /** How many elements are kept. */
    public long kept() {
        return values.byteSize() / dtype.bytes();
    }

    /** Bytes of mask and values together. */
    public long bytes() {
        return mask.byteSize() + values.byteSize();
    }

    /** For every row the index of its first value, and behind them {@link #kept}. */
    public long[] rowStarts() {
        long rowBytes = rowBytes(shape);
        long[] starts = new long[Math.toIntExact(rows() + 1)];
        for (int row = 0; row + 1 < starts.length; row++) {
            starts[row + 1] = starts[row] + count(mask, row * rowBytes, (row + 1) * rowBytes);
        }
        return starts;
    }

    private static long cols(Shape shape) {
        return shape.rank() == 0 ? 1 : shape.dimension(shape.rank() - 1);
    }

    private static long rows(Shape shape) {
        return shape.elements() == 0 ? 0 : shape.elements() / cols(shape);
    }

    private static long rowBytes(Shape shape) {
        return Math.ceilDiv(cols(shape), 8);
    }

    private static long count(MemorySegment mask, long from, long to) {
        long total = 0;
        long at = from;
        for (; at + 8 <= to; at += 8) {
            total += Long.bitCount(mask.get(LONG, at));
        }
        for (; at < to; at++) {
            total += Integer.bitCount(mask.get(ValueLayout.JAVA_BYTE, at) & 0xff);
        }
        return total;
    }

    /** One bit for each of {@code count} elements, set where the element has a set bit. */
    private static int keptOf(MemorySegment data, int width, long first, int count) {
        int bits = 0;
        for (int i = 0; i < count; i++) {
            long element = switch (width) {
                case 1 -> data.get(ValueLayout.JAVA_BYTE, first + i);
                case 2 -> data.get(ValueLayout.JAVA_SHORT_UNALIGNED, (first + i) * 2);
                case 4 -> data.get(ValueLayout.JAVA_INT_UNALIGNED, (first + i) * 4);
                default -> data.get(ValueLayout.JAVA_LONG_UNALIGNED, (first + i) * 8);
            };
            bits |= element != 0 ? 1 << i : 0;
        }
        return bits;
    }

    /** Takes the index of a kept element in the dense tensor and among the values. */
    private interface Move {
        void accept(long element, long index);
    }

    private static void move(Shape shape, MemorySegment mask, Move move) {
        long cols = cols(shape);
        long rowBytes = rowBytes(shape);
        long index = 0;
        for (long at = 0; at < mask.byteSize(); at++) {
            long first = at / rowBytes * cols + at % rowBytes * 8;
            for (int bits = mask.get(ValueLayout.JAVA_BYTE, at) & 0xff; bits != 0; bits &= bits - 1) {
                move.accept(first + Integer.numberOfTrailingZeros(bits), index++);
            }
        }
    }

    private static void copy(int width, MemorySegment from, long source, MemorySegment to, long target) {
        switch (width) {
            case 1 -> to.set(ValueLayout.JAVA_BYTE, target, from.get(ValueLayout.JAVA_BYTE, source));
            case 2 ->
                to.set(
                        ValueLayout.JAVA_SHORT_UNALIGNED,
                        target * 2,
                        from.get(ValueLayout.JAVA_SHORT_UNALIGNED, source * 2));
            case 4 ->
                to.set(
                        ValueLayout.JAVA_INT_UNALIGNED,
                        target * 4,
                        from.get(ValueLayout.JAVA_INT_UNALIGNED, source * 4));
            default ->
                to.set(
                        ValueLayout.JAVA_LONG_UNALIGNED,
                        target * 8,
                        from.get(ValueLayout.JAVA_LONG_UNALIGNED, source * 8));
        }
    }
}

package org.sentei.model.graph;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * A value of 8-bit integers on a device.
 *
 * @param view a column for every place along the order's axis, a row for every place along all others together
 * @param shape as it is outside
 */
record IntegerImage(View view, Shape shape, Order order) {
    /** Which axis lies innermost on the device. */
    enum Order {
        /** Axis 1: images as convolutions and pools read them. */
        CHANNELS,
        /** The last one, as outside: rows as products with matrices read them. */
        LAST
    }

    /** Puts integers on a device. */
    static IntegerImage upload(byte[] outside, DType dtype, Shape shape, Order order, Scope scope) {
        long[] extent = extent(shape, order);
        byte[] bytes = outside;
        if (extent[2] > 1) {
            bytes = new byte[outside.length];
            for (int i = 0; i < bytes.length; i++) {
                bytes[position(i, extent)] = outside[i];
            }
        }
        IntegerImage image = empty(dtype, shape, order, scope);
        scope.backend().copyIn(MemorySegment.ofArray(bytes), image.view);
        return image;
    }

    /** Room for integers. */
    static IntegerImage empty(DType dtype, Shape shape, Order order, Scope scope) {
        long[] extent = extent(shape, order);
        return new IntegerImage(scope.matrix(dtype, extent[0] * extent[2], extent[1]), shape, order);
    }

    /** Brings the integers outside. */
    Tensor download(String name, Backend backend) {
        byte[] device = new byte[Math.toIntExact(view.elements())];
        backend.copyOut(view, MemorySegment.ofArray(device));
        long[] extent = extent(shape, order);
        byte[] outside = device;
        if (extent[2] > 1) {
            outside = new byte[device.length];
            for (int i = 0; i < outside.length; i++) {
                outside[i] = device[position(i, extent)];
            }
        }
        return new Tensor(name, view.dtype(), shape, MemorySegment.ofArray(outside));
    }

    /** The same integers in another order; through the host where they have to move. */
    IntegerImage in(Order wanted, Scope scope) {
        return wanted == order ? this : as(shape, wanted, scope);
    }

    /** The same integers, in the order outside, as another shape of as many. */
    IntegerImage as(Shape other, Order wanted, Scope scope) {
        long[] target = extent(other, wanted);
        if (extent(shape, order)[2] <= 1 && target[2] <= 1) {
            return new IntegerImage(view.reshape(target[0] * target[2], target[1]), other, wanted);
        }
        byte[] outside = download("", scope.backend()).data().toArray(ValueLayout.JAVA_BYTE);
        return upload(outside, view.dtype(), other, wanted, scope);
    }

    /** Places before the axis that lies innermost on the device, along it, and behind it. */
    private static long[] extent(Shape shape, Order order) {
        int axis = order == Order.LAST ? shape.rank() - 1 : Math.min(1, shape.rank());
        long before = 1;
        long along = 1;
        long behind = 1;
        for (int i = 0; i < shape.rank(); i++) {
            if (i < axis) {
                before *= shape.dimension(i);
            } else if (i == axis) {
                along = shape.dimension(i);
            } else {
                behind *= shape.dimension(i);
            }
        }
        return new long[] {before, along, behind};
    }

    /** Where an element is on the device. */
    private static int position(int index, long[] extent) {
        long last = index % extent[2];
        long along = index / extent[2] % extent[1];
        long before = index / extent[2] / extent[1];
        return (int) ((before * extent[2] + last) * extent[1] + along);
    }
}

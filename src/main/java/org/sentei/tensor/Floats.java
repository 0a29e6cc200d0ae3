package org.sentei.tensor;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/** Reads and writes single elements of the floating types as numbers, and converts whole segments. */
public final class Floats {
    private static final ValueLayout.OfShort SHORT =
            ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfFloat FLOAT =
            ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfDouble DOUBLE =
            ValueLayout.JAVA_DOUBLE_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private Floats() {}

    /** The bfloat16 value with these bits. */
    public static float fromBfloat16(short bits) {
        return Float.intBitsToFloat(bits << 16);
    }

    /** Rounds to bfloat16, to nearest with ties to even; NaN stays NaN. */
    public static short toBfloat16(float value) {
        int bits = Float.floatToRawIntBits(value);
        if ((bits & 0x7fff_ffff) > 0x7f80_0000) {
            return (short) ((bits >>> 16) | 0x40);
        }
        return (short) ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16);
    }

    /**
     * Element {@code index} of a packed segment.
     *
     * @throws IllegalArgumentException for types that are not floating
     */
    public static double get(DType dtype, MemorySegment data, long index) {
        return switch (dtype) {
            case F64 -> data.get(DOUBLE, index * 8);
            case F32 -> data.get(FLOAT, index * 4);
            case F16 -> Float.float16ToFloat(data.get(SHORT, index * 2));
            case BF16 -> fromBfloat16(data.get(SHORT, index * 2));
            default -> throw notFloating(dtype);
        };
    }

    /**
     * Stores {@code value} rounded to the type, to nearest with ties to even.
     *
     * @throws IllegalArgumentException for types that are not floating
     */
    public static void set(DType dtype, MemorySegment data, long index, double value) {
        switch (dtype) {
            case F64 -> data.set(DOUBLE, index * 8, value);
            case F32 -> data.set(FLOAT, index * 4, (float) value);
            case F16 -> data.set(SHORT, index * 2, Float.floatToFloat16((float) value));
            case BF16 -> data.set(SHORT, index * 2, toBfloat16((float) value));
            default -> throw notFloating(dtype);
        }
    }

    /** All elements of a floating tensor as an array, rounded to fp32. */
    public static float[] toArray(Tensor tensor) {
        float[] values = new float[Math.toIntExact(tensor.shape().elements())];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) get(tensor.dtype(), tensor.data(), i);
        }
        return values;
    }

    private static IllegalArgumentException notFloating(DType dtype) {
        return new IllegalArgumentException(dtype + " elements cannot be read as floating-point numbers");
    }
}

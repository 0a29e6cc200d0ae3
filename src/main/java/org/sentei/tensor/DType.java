package org.sentei.tensor;

import java.util.Locale;

/**
 * Element types of model files.
 *
 * <p>The names are those of the safetensors format. Every type can be carried through unchanged; only the types for which
 * {@link #isFloating()} holds can be read as numbers by {@link Floats}.
 */
public enum DType {
    /** IEEE 754, 64 bits. */
    F64(64),
    /** IEEE 754, 32 bits. */
    F32(32),
    /** IEEE 754, 16 bits. */
    F16(16),
    /** Brain floating point: the upper half of an F32. */
    BF16(16),
    /** Signed, 64 bits. */
    I64(64),
    /** Signed, 32 bits. */
    I32(32),
    /** Signed, 16 bits. */
    I16(16),
    /** Signed, 8 bits. */
    I8(8),
    /** Unsigned, 64 bits. */
    U64(64),
    /** Unsigned, 32 bits. */
    U32(32),
    /** Unsigned, 16 bits. */
    U16(16),
    /** Unsigned, 8 bits. */
    U8(8),
    /** One byte, 0 or 1. */
    BOOL(8),
    /** Complex, two F32. */
    C64(64),
    /** Four bits of exponent, three of mantissa. */
    F8_E4M3(8),
    /** Five bits of exponent, two of mantissa. */
    F8_E5M2(8),
    /** Eight bits of exponent: a scale. */
    F8_E8M0(8),
    /** Two bits of exponent, three of mantissa. */
    F6_E2M3(6),
    /** Three bits of exponent, two of mantissa. */
    F6_E3M2(6),
    /** Two bits of exponent, one of mantissa. */
    F4(4);

    private final int bits;

    DType(int bits) {
        this.bits = bits;
    }

    /** Size of one element in bits. */
    public int bits() {
        return bits;
    }

    /**
     * Size of one element in bytes.
     *
     * @throws IllegalStateException for types narrower than a byte
     */
    public int bytes() {
        if (bits % 8 != 0) {
            throw new IllegalStateException(this + " elements are " + bits + " bits wide, not whole bytes");
        }
        return bits / 8;
    }

    /**
     * Bytes that {@code elements} packed elements occupy.
     *
     * @throws ArithmeticException when the product overflows or is no whole number of bytes
     */
    public long bytesFor(long elements) {
        long total = Math.multiplyExact(elements, bits);
        if (total % 8 != 0) {
            throw new ArithmeticException(elements + " elements of " + this + " are not a whole number of bytes");
        }
        return total / 8;
    }

    /** True for the types {@link Floats} converts: F64, F32, F16 and BF16. */
    public boolean isFloating() {
        return switch (this) {
            case F64, F32, F16, BF16 -> true;
            default -> false;
        };
    }

    /** The name as configuration files write it, for example {@code bf16}. */
    public String label() {
        return name().toLowerCase(Locale.ROOT);
    }
}

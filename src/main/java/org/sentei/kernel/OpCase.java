package org.sentei.kernel;

import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Function;
import org.sentei.tensor.DType;

/**
 * One case of one op: its operands, what they hold, and how close a backend must come to the reference.
 *
 * @param label what is special about it, unique within the op
 * @param build makes the op from the views of the operands, in their order
 */
public record OpCase(
        Class<? extends Op> op,
        String label,
        Tolerance tolerance,
        List<Operand> operands,
        Function<List<View>, Op> build) {

    /** For example {@code gemm/129x65x33 bias}: what a failing line prints. */
    public String name() {
        return Op.stem(op) + "/" + label;
    }

    /** How an op uses an operand. */
    public enum Role {
        /** Only read. */
        READ,
        /** Written whole, whatever it held before. */
        WRITE,
        /** Read and written. */
        UPDATE
    }

    /**
     * A matrix that a case needs.
     *
     * @param gap elements between the end of a row and the start of the next
     * @param fill what it holds before the op runs; of a WRITE operand nothing of it may remain
     */
    public record Operand(String name, Role role, DType dtype, long rows, long cols, long gap, Fill fill) {}

    /** Puts values into packed rows. */
    @FunctionalInterface
    public interface Fill {
        /** Fills {@code packed}, {@code rows * cols} elements of the operand's type. */
        void fill(SplittableRandom random, MemorySegment packed, long rows, long cols);
    }

    @Override
    public String toString() {
        return name();
    }
}

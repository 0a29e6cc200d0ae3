package org.sentei.backend.gpu;

import java.util.List;

/**
 * One kernel to run.
 *
 * @param file stem of the kernel file that holds the entry, {@code kernels/common/<file>.inc}, or {@link KernelSource#USERS}
 * @param entry name of the kernel
 * @param fp64 whether the kernel exists only on devices with fp64
 * @param groups groups of {@link #GROUP} work-items, at least 1
 * @param arguments in the kernel's order
 */
public record Launch(String file, String entry, boolean fp64, int groups, List<Argument> arguments) {
    /** The same kernel from another file. */
    Launch from(String other) {
        return new Launch(other, entry, fp64, groups, arguments);
    }

    /** Work-items of a group: GROUP of {@code kernels/portable.h}. */
    public static final int GROUP = 256;

    /** What a kernel is given. */
    public sealed interface Argument {
        /**
         * A matrix, IN or OUT in a kernel's declaration: an address and two 64-bit integers.
         *
         * @param handle of its memory, 0 for a matrix that is left out
         * @param first elements before its first
         * @param stride elements from row to row
         */
        record Matrix(long handle, long first, long stride) implements Argument {}

        /** A 32-bit integer. */
        record Int32(int value) implements Argument {}

        /** A 64-bit integer. */
        record Int64(long value) implements Argument {}

        /** An fp32 number. */
        record Fp32(float value) implements Argument {}

        /** An fp64 number. */
        record Fp64(double value) implements Argument {}
    }
}

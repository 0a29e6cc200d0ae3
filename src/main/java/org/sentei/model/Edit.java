package org.sentei.model;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * What a method wants changed at one site; a writer carries it out, the method never touches a file.
 *
 * @param pruned rows (outputs) x cols (inputs) of the site, whatever the file's orientation
 * @param weight the new weight, F32 rows x cols like {@code pruned}, +0 where that prunes, under the name it has in the file;
 *     null when weights that are not pruned keep their bits
 * @param bias the new bias of each output, F32 under the name it has or gets in the file; null leaves the bias as it is
 */
public record Edit(Site site, BitMask pruned, Tensor weight, Tensor bias) {
    /** Checks that mask, weight and bias have the shape of the site; otherwise an {@link IllegalArgumentException}. */
    public Edit {
        if (pruned.rows() != site.rows() || pruned.cols() != site.cols()) {
            throw new IllegalArgumentException("site " + site.name() + " is " + site.rows() + "x" + site.cols()
                    + ", its mask " + pruned.rows() + "x" + pruned.cols());
        }
        if (weight != null) {
            checkWeight(site, pruned, weight);
        }
        if (bias != null && (bias.dtype() != DType.F32 || bias.shape().elements() != site.rows())) {
            throw new IllegalArgumentException("site " + site.name() + " needs a bias of " + site.rows()
                    + " F32 values, not " + bias.dtype() + " " + bias.shape());
        }
    }

    /** An edit that leaves the bits of weights that are not pruned. */
    public Edit(Site site, BitMask pruned, Tensor bias) {
        this(site, pruned, null, bias);
    }

    private static void checkWeight(Site site, BitMask pruned, Tensor weight) {
        long[] shape = {site.rows(), site.cols()};
        if (!weight.name().equals(site.weight())
                || weight.dtype() != DType.F32
                || !Arrays.equals(weight.shape().toArray(), shape)) {
            throw new IllegalArgumentException("site " + site.name() + " needs a weight " + site.weight() + " of F32 "
                    + Arrays.toString(shape) + ", not " + weight.name() + " of " + weight.dtype() + " "
                    + weight.shape());
        }
        for (long row = 0; row < site.rows(); row++) {
            for (long col = 0; col < site.cols(); col++) {
                double value = Floats.get(DType.F32, weight.data(), row * site.cols() + col);
                if (pruned.get(row, col) && Double.doubleToRawLongBits(value) != 0) {
                    throw new IllegalArgumentException("site " + site.name() + " has the weight " + value + " at row "
                            + row + ", column " + col + ", which its mask prunes");
                }
            }
        }
    }

    /** The same edit with another bias. */
    public Edit withBias(Tensor other) {
        return new Edit(site, pruned, weight, other);
    }

    /**
     * Carries the edit out on some consecutive elements of the weight as its file holds them: pruned elements become +0, the
     * others the new weight rounded to nearest, or stay as they are when there is none.
     *
     * @param dtype the file's type, a floating one
     * @param first index of the first element, in the file's orientation
     * @param elements the file's content on entry
     * @throws ModelException when the type cannot hold a value
     */
    public void applyTo(DType dtype, long first, MemorySegment elements) {
        long lineLength = site.transposed() ? site.rows() : site.cols();
        long count = elements.byteSize() / dtype.bytes();
        for (long done = 0; done < count; ) {
            long line = (first + done) / lineLength;
            long from = (first + done) % lineLength;
            int length = Math.toIntExact(Math.min(lineLength - from, count - done));
            MemorySegment part = elements.asSlice(dtype.bytesFor(done), dtype.bytesFor(length));
            if (weight != null) {
                store(dtype, line, from, part, length);
            }
            clear(line, from, part, length);
            done += length;
        }
    }

    /** Half of the weights go, in no order: to branch on each would take longer than to write them all, in units of 16 bits. */
    private void clear(long line, long from, MemorySegment part, int length) {
        short[] units = part.toArray(ValueLayout.JAVA_SHORT_UNALIGNED);
        int each = units.length / length;
        int[] words = pruned.words();
        long rowBits = 32L * BitMask.wordsPerRow(site.cols());
        long bit = site.transposed() ? from * rowBits + line : line * rowBits + from;
        long step = site.transposed() ? rowBits : 1;
        for (int unit = 0; unit < units.length; bit += step) {
            int keep = ((words[(int) (bit >>> 5)] >>> (int) bit) & 1) - 1;
            for (int end = unit + each; unit < end; unit++) {
                units[unit] &= (short) keep;
            }
        }
        MemorySegment.copy(units, 0, part, ValueLayout.JAVA_SHORT_UNALIGNED, 0, units.length);
    }

    private void store(DType dtype, long line, long from, MemorySegment part, int length) {
        for (int i = 0; i < length; i++) {
            long row = site.transposed() ? from + i : line;
            long col = site.transposed() ? line : from + i;
            store("weight", weight, row * site.cols() + col, dtype, part, i);
        }
    }

    /**
     * The new bias as a file of this type holds it, rounded to nearest.
     *
     * @throws ModelException when the type cannot hold a value
     */
    public Tensor biasAs(DType dtype) {
        long elements = site.rows();
        MemorySegment content = MemorySegment.ofArray(new byte[Math.toIntExact(dtype.bytesFor(elements))]);
        for (long i = 0; i < elements; i++) {
            store("bias", bias, i, dtype, content, i);
        }
        return new Tensor(bias.name(), dtype, Shape.of(elements), content);
    }

    private void store(String kind, Tensor source, long index, DType dtype, MemorySegment target, long position) {
        double value = Floats.get(DType.F32, source.data(), index);
        Floats.set(dtype, target, position, value);
        if (!Double.isFinite(Floats.get(dtype, target, position))) {
            throw new ModelException(kind + " " + source.name() + " of site " + site.name() + " has the value " + value
                    + " at " + index + ", which " + dtype + " cannot hold: leave the " + kind
                    + " as it is, or ignore the site");
        }
    }
}

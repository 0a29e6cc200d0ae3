package org.sentei.model;

import java.lang.foreign.MemorySegment;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * What a method wants changed at one site; a writer carries it out, the method never touches a file.
 *
 * @param pruned rows (outputs) x cols (inputs) of the site, whatever the file's orientation; weights that are not pruned
 *     keep their bits
 * @param bias the new bias of each output, F32 under the name it has or gets in the file; null leaves the bias as it is
 */
public record Edit(Site site, BitMask pruned, Tensor bias) {
    public Edit {
        if (pruned.rows() != site.rows() || pruned.cols() != site.cols()) {
            throw new IllegalArgumentException("site " + site.name() + " is " + site.rows() + "x" + site.cols()
                    + ", its mask " + pruned.rows() + "x" + pruned.cols());
        }
        if (bias != null && (bias.dtype() != DType.F32 || bias.shape().elements() != site.rows())) {
            throw new IllegalArgumentException("site " + site.name() + " needs a bias of " + site.rows()
                    + " F32 values, not " + bias.dtype() + " " + bias.shape());
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
            double value = Floats.get(DType.F32, bias.data(), i);
            Floats.set(dtype, content, i, value);
            if (!Double.isFinite(Floats.get(dtype, content, i))) {
                throw new ModelException("bias " + bias.name() + " of site " + site.name() + " has the value " + value
                        + " at " + i + ", which " + dtype + " cannot hold: turn the bias update off");
            }
        }
        return new Tensor(bias.name(), dtype, Shape.of(elements), content);
    }
}

package org.sentei.model;

import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;
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
}

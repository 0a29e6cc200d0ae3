package org.sentei.model;

import org.sentei.tensor.BitMask;

/**
 * What a method wants changed at one site; a writer carries it out, the method never touches a file.
 *
 * @param pruned rows (outputs) x cols (inputs) of the site, whatever the file's orientation; weights that are not pruned
 *     keep their bits
 * @param bias the new bias of each output, or null to leave the bias as it is
 */
public record Edit(Site site, BitMask pruned, float[] bias) {
    public Edit {
        if (pruned.rows() != site.rows() || pruned.cols() != site.cols()) {
            throw new IllegalArgumentException("site " + site.name() + " is " + site.rows() + "x" + site.cols()
                    + ", its mask " + pruned.rows() + "x" + pruned.cols());
        }
        if (bias != null && bias.length != site.rows()) {
            throw new IllegalArgumentException(
                    "site " + site.name() + " has " + site.rows() + " outputs, its new bias " + bias.length);
        }
    }
}

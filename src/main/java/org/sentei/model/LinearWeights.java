package org.sentei.model;

import org.sentei.kernel.View;

/**
 * A linear layer on the device.
 *
 * @param weight F32 site.rows() x site.cols(): outputs x inputs, whatever the file's orientation
 * @param bias F32 1 x site.rows(), or null
 */
public record LinearWeights(Site site, View weight, View bias) {
    public LinearWeights {
        if (weight.rows() != site.rows() || weight.cols() != site.cols()) {
            throw new IllegalArgumentException(
                    "site " + site.name() + " is " + site.rows() + "x" + site.cols() + ", its weight " + weight);
        }
        if (bias != null && (bias.rows() != 1 || bias.cols() != site.rows())) {
            throw new IllegalArgumentException(
                    "site " + site.name() + " has " + site.rows() + " outputs, its bias is " + bias);
        }
    }
}

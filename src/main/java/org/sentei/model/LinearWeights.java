package org.sentei.model;

import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.tensor.Tensor;

/**
 * A linear layer on the device.
 *
 * @param weight F32 site.rows() x site.cols(): outputs x inputs, whatever the file's orientation
 * @param bias F32 1 x site.rows(), or null
 */
public record LinearWeights(Site site, View weight, View bias) {
    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
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

    /**
     * Brings one layer onto the device.
     *
     * @throws ModelException when a tensor is missing or holds NaN or infinite values
     */
    public static LinearWeights load(Site site, TensorSource tensors, Scope scope) {
        return load(site, tensors, Uploads.none(), scope);
    }

    /** As above, for tensors some of which are on their way. */
    public static LinearWeights load(Site site, TensorSource tensors, Uploads uploads, Scope scope) {
        WeightLoader loader = new WeightLoader(scope, uploads);
        LinearWeights linear = load(site, tensors, loader);
        loader.checkFinite();
        return linear;
    }

    /** As above, leaving the check for finite values to the loader's user. */
    static LinearWeights load(Site site, TensorSource tensors, WeightLoader loader) {
        Tensor weight = tensors.tensor(site.weight());
        return new LinearWeights(
                site,
                site.transposed()
                        ? loader.transposed(weight, site.rows(), site.cols())
                        : loader.matrix(weight, site.rows(), site.cols()),
                site.bias() == null ? null : loader.matrix(tensors.tensor(site.bias()), 1, site.rows()));
    }
}

package org.sentei.model;

import org.sentei.kernel.View;

/**
 * What follows the last block, on the device.
 *
 * @param norm null for models without a final norm
 * @param projection F32 tableWidth x width applied before the output layer, or null
 * @param linear null for models whose output is the last hidden state
 */
public record HeadWeights(NormWeights norm, View projection, LinearWeights linear) {}

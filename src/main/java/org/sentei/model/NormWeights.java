package org.sentei.model;

import org.sentei.kernel.View;

/**
 * A norm on the device.
 *
 * @param gain F32 1 x width
 * @param bias F32 1 x width; null for an RMS norm
 */
public record NormWeights(View gain, View bias) {}

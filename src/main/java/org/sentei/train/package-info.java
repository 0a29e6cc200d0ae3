/**
 * Differentiable execution: the loss of a network and its gradient by every parameter, on DJL's PyTorch engine, of which nothing
 * shows outside. All randomness comes in from the caller, so that a seed decides a training.
 */
package org.sentei.train;

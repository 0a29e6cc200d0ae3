/**
 * What a neural network is to Sentei: sites whose weights can be edited, walkers that find them in each family of
 * architectures, and one forward pass built from ops.
 */
package org.sentei.model;

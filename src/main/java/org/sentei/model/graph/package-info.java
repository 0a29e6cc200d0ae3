/** Graphs of typed layers, of any operators: what quantization reads and rewrites, and training. Files are read and written in {@code format}. */
package org.sentei.model.graph;

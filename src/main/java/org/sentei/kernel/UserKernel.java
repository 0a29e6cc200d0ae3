package org.sentei.kernel;

/**
 * Kernels of one op from somebody else, as source: what they define takes the place of a backend's own.
 *
 * @param op stem of the op, for example {@code column_moments}
 * @param name of the file, for messages and results
 * @param source its text, in the language of the backend
 */
public record UserKernel(String op, String name, String source) {}

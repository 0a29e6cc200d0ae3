/**
 * Mutation fuzzers for everything that is read from files: {@link org.sentei.fuzz.FuzzTest} starts them, docs/fuzzing.md
 * explains them.
 */
package org.sentei.fuzz;

/** The oracle: every op as plain Java loops that read like its formula, with fp64 sums, no SIMD and no threads. */
package org.sentei.backend.reference;

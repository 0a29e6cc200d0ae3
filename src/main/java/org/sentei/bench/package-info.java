/**
 * What the kernels' speed is: what to time, the result as JSON, CSV and roofline, and the comparison of two results. How it
 * is timed is behind {@link org.sentei.bench.Harness}, whose one implementation lives outside the library, in
 * {@code bench/jmh}.
 */
package org.sentei.bench;

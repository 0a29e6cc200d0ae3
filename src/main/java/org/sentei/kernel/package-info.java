/**
 * The kernel SPI: an {@link org.sentei.kernel.Op} is a record that states its contract, a
 * {@link org.sentei.kernel.Backend} runs it, {@link org.sentei.kernel.OpCases} lists the cases every backend must pass.
 */
package org.sentei.kernel;

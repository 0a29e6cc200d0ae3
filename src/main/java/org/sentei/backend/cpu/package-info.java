/**
 * The fast backend of the host processor: own C kernels for everything but the matrix product, which is OpenBLAS's, both
 * bound through the foreign-function interface; threads are Java's, over tiles that depend on shapes alone.
 */
package org.sentei.backend.cpu;

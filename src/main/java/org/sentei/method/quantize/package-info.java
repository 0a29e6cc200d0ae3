/** Int8 quantization after training: rewriting the float graph, ranges, rounding, corrections, export. */
package org.sentei.method.quantize;

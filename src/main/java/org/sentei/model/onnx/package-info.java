/** Runs ONNX models with ONNX Runtime on the CPU and hands out the values that methods observe. */
package org.sentei.model.onnx;

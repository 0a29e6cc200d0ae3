/**
 * What the device backends share: which kernels an op is made of ({@link org.sentei.backend.gpu.LaunchTable}), and all of a
 * backend that is not specific to a driver ({@link org.sentei.backend.gpu.GpuBackend}) on top of a small interface to one
 * ({@link org.sentei.backend.gpu.GpuDevice}). The kernels themselves are in {@code kernels/}.
 */
package org.sentei.backend.gpu;

/** OpenCL devices of any vendor, through LWJGL: their driver compiles the kernels of {@link org.sentei.backend.gpu}. */
package org.sentei.backend.opencl;

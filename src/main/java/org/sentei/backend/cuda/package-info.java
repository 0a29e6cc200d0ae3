/**
 * The backend of NVIDIA GPUs: the kernels that this build compiled, through the driver's own library. What is called often
 * goes through the foreign-function interface, the wide and slow part through JCuda; handles pass between the two as plain
 * addresses. Nothing here links against CUDA: on a machine without it the backend says that it is not available.
 */
package org.sentei.backend.cuda;

package org.sentei.kernel;

/**
 * What a backend runs on.
 *
 * @param backend name of the backend, as {@code --backend} takes it
 * @param device for example the processor's model name
 * @param driver version of the driver or of the native library
 * @param memoryBytes memory the backend can allocate from
 * @param isa instruction-set tier in use, or an empty string where that means nothing
 */
public record DeviceInfo(String backend, String device, String driver, long memoryBytes, String isa) {}

package org.sentei.platform;

import java.util.Locale;
import java.util.Optional;

/** Process-wide settings: a system property, or else the environment variable of the same words. */
public final class Settings {
    /** Directory for native libraries. */
    public static final String NATIVE_DIR = "sentei.native.dir";
    /** Highest instruction-set tier that the cpu backend may use. */
    public static final String MAX_ISA = "sentei.max.isa";
    /** File of the CUDA driver library, where the system does not find libcuda.so.1 by itself. */
    public static final String CUDA_DRIVER = "sentei.cuda.driver";
    /** File of cuBLASLt, where the system does not find the right one by itself; {@code none} for our own kernels. */
    public static final String CUBLASLT = "sentei.cublaslt";

    /** File of NVRTC, where the system does not find the right one by itself. */
    public static final String NVRTC = "sentei.nvrtc";

    /** File where the cuda backend writes when its kernels and copies ran, as a trace for Chromium's tracing or Perfetto. */
    public static final String CUDA_TRACE = "sentei.cuda.trace";

    private Settings() {}

    /** The value of a setting; empty when it is absent or blank. */
    public static Optional<String> find(String property) {
        return Optional.ofNullable(System.getProperty(property))
                .or(() -> Optional.ofNullable(System.getenv(environmentName(property))))
                .filter(value -> !value.isEmpty());
    }

    /** For example {@code SENTEI_NATIVE_DIR}. */
    public static String environmentName(String property) {
        return property.toUpperCase(Locale.ROOT).replace('.', '_');
    }
}

package org.sentei.backend.gpu;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;

/** The kernels as source, for drivers that compile them. */
public final class KernelSource {
    private KernelSource() {}

    /** A kernel file behind the header that defines its language. */
    public static String of(String file) {
        return read("portable.h") + read("common/" + file + ".inc");
    }

    private static String read(String name) {
        try (InputStream in = KernelSource.class.getResourceAsStream("kernels/" + name)) {
            if (in == null) {
                throw new IllegalStateException("this build of Sentei lacks the kernel file " + name);
            }
            return new String(in.readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}

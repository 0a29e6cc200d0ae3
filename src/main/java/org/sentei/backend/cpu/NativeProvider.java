package org.sentei.backend.cpu;

import java.util.Optional;
import org.sentei.kernel.Backend;
import org.sentei.kernel.DeviceException;
import org.sentei.platform.LibraryCache;
import org.sentei.platform.Settings;

/** Provides the {@link NativeBackend} where its libraries are present. */
public final class NativeProvider implements Backend.Provider {
    @Override
    public String name() {
        return NativeBackend.NAME;
    }

    @Override
    public int rank() {
        return 10;
    }

    @Override
    public Optional<String> unavailableBecause() {
        NativeLibrary.checkIsa(maxIsa());
        return NativeLibrary.missing(NativeProvider.class.getClassLoader());
    }

    @Override
    public Backend open(Backend.Options options) {
        return open(options, maxIsa());
    }

    private static String maxIsa() {
        return Settings.find(Settings.MAX_ISA).orElse("");
    }

    /** As {@link #open(Backend.Options)}, with this cap of the instruction set instead of the process's setting. */
    static NativeBackend open(Backend.Options options, String maxIsa) {
        return open(options, maxIsa, Interceptor.NONE);
    }

    static NativeBackend open(Backend.Options options, String maxIsa, Interceptor interceptor) {
        if (options.device() != 0) {
            throw new DeviceException(
                    NativeBackend.NAME,
                    "opening device " + options.device(),
                    0,
                    "the processor is device 0, there is no other",
                    DeviceException.Kind.UNSUPPORTED);
        }
        NativeLibrary library =
                NativeLibrary.open(LibraryCache.ofUser(), NativeProvider.class.getClassLoader(), maxIsa, interceptor);
        return new NativeBackend(library, options, interceptor);
    }
}

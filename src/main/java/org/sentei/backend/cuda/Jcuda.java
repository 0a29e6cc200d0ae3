package org.sentei.backend.cuda;

import java.io.IOException;
import java.net.URL;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import jcuda.Pointer;
import jcuda.driver.CUdeviceptr;
import jcuda.driver.CUfunction;
import jcuda.driver.CUgraphExec;
import jcuda.driver.CUstream;
import jcuda.driver.JCudaDriver;
import org.sentei.kernel.DeviceException;
import org.sentei.platform.LibraryCache;
import org.sentei.platform.SystemProperties;

/** Loads JCuda's binding of the driver, and turns its handles into addresses and back. */
final class Jcuda {
    private static final String FILE = "libJCudaDriver-12.6.0-linux-x86_64.so";
    private static final String TEMPORARY = "java.io.tmpdir";

    private Jcuda() {}

    /** Why {@link #load} cannot succeed with these resources, or empty; loads nothing. */
    static Optional<String> missing(ClassLoader resources) {
        if (resources.getResource("jcuda/driver/JCudaDriver.class") == null) {
            return Optional.of(
                    "JCuda is not on the class path; add the dependency org.jcuda:jcuda, its natives are not needed");
        }
        if (resource(resources) == null) {
            return Optional.of(
                    "this build has no " + FILE + ", which exists for Linux on x86-64 only; use another backend");
        }
        return Optional.empty();
    }

    private static URL resource(ClassLoader resources) {
        return resources.getResource("org/sentei/backend/cuda/linux-x86_64/" + FILE);
    }

    /**
     * Loads JCuda from a private copy; the driver's library must be loaded already. By itself JCuda would write its copy to
     * the folder for temporary files under a fixed name, and load whatever lies there by that name.
     *
     * @throws DeviceException UNSUPPORTED when the system refuses to load it
     */
    static void load(LibraryCache cache, ClassLoader resources) {
        Path copy;
        try {
            copy = cache.extract(resource(resources), FILE);
        } catch (IOException e) {
            throw new DeviceException(
                    CudaDriver.NAME, "loading " + FILE, e.getMessage(), DeviceException.Kind.UNSUPPORTED, e);
        }
        try {
            SystemProperties.during(Map.of(TEMPORARY, copy.getParent().toString()), () -> {
                JCudaDriver.setExceptionsEnabled(false);
                return null;
            });
        } catch (LinkageError e) {
            throw new DeviceException(
                    CudaDriver.NAME,
                    "loading " + copy,
                    e.getMessage()
                            + "; the driver is too old for JCuda 12.6, or the file system does not allow execution",
                    DeviceException.Kind.UNSUPPORTED,
                    e);
        }
    }

    /** Host memory at an address. */
    static final class HostPointer extends Pointer {
        HostPointer(long address) {
            super(address);
        }
    }

    /** Device memory at an address, or what an allocation sets it to. */
    static final class DevicePointer extends CUdeviceptr {
        DevicePointer() {}

        DevicePointer(long address) {
            super(new CUdeviceptr(), address);
        }

        long address() {
            return getNativePointer() + getByteOffset();
        }
    }

    /** A kernel whose handle can be read. */
    static final class Function extends CUfunction {
        long address() {
            return getNativePointer();
        }
    }

    /** A stream whose handle can be read. */
    static final class Stream extends CUstream {
        long address() {
            return getNativePointer();
        }
    }

    /** A graph, ready to launch, whose handle can be read. */
    static final class Graph extends CUgraphExec {
        long address() {
            return getNativePointer();
        }
    }
}

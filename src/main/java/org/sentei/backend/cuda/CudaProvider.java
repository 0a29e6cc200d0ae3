package org.sentei.backend.cuda;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import java.util.function.IntFunction;
import org.sentei.backend.gpu.GpuBackend;
import org.sentei.kernel.Backend;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.MemoryBudget;
import org.sentei.kernel.UserKernel;
import org.sentei.platform.LibraryCache;
import org.sentei.platform.Settings;

/** Provides the backend of NVIDIA GPUs where there is a driver with a GPU, JCuda, and kernels in this build. */
public final class CudaProvider implements Backend.Provider {
    @Override
    public String name() {
        return CudaDriver.NAME;
    }

    @Override
    public int rank() {
        return 30;
    }

    @Override
    public Optional<String> unavailableBecause() {
        return missing(CudaDriver.search(), CudaProvider.class.getClassLoader());
    }

    /** Where the kernel's part of the driver is, its library is to be used; a driver that is named by hand even more so. */
    @Override
    public boolean isExpected() {
        return Files.exists(Path.of("/dev/nvidiactl"))
                || Settings.find(Settings.CUDA_DRIVER).isPresent();
    }

    @Override
    public Backend open(Backend.Options options) {
        return open(options, CudaProvider.class.getClassLoader());
    }

    /** As {@link #open(Backend.Options)}, with JCuda's library and the kernels from these resources. */
    static Backend open(Backend.Options options, ClassLoader resources) {
        return open(options, Optional.empty(), resources);
    }

    @Override
    public Backend open(Backend.Options options, UserKernel kernel) {
        return open(options, Optional.of(kernel), CudaProvider.class.getClassLoader());
    }

    private static Backend open(Backend.Options options, Optional<UserKernel> kernel, ClassLoader resources) {
        CudaDriver.Search search = CudaDriver.search();
        missing(search, resources).ifPresent(reason -> {
            throw CudaDriver.unsupported("opening the backend", reason);
        });
        Jcuda.load(LibraryCache.ofUser(), CudaProvider.class.getClassLoader());
        KernelImages images = KernelImages.of(resources).orElseThrow();
        MemoryBudget budget = new MemoryBudget(CudaDriver.NAME, options.memoryBytes());
        IntFunction<byte[]> users = capability -> Nvrtc.find().compile(kernel.orElseThrow(), capability);
        return new GpuBackend(
                new CudaDevice(search.driver(), options.device(), search.version(), images, users, budget), kernel);
    }

    private static Optional<String> missing(CudaDriver.Search search, ClassLoader resources) {
        if (search.driver() == null) {
            return Optional.of(search.reason());
        }
        return Jcuda.missing(CudaProvider.class.getClassLoader()).or(() -> missingKernels(search, resources));
    }

    private static Optional<String> missingKernels(CudaDriver.Search search, ClassLoader resources) {
        Optional<KernelImages> images;
        try {
            images = KernelImages.of(resources);
        } catch (DeviceException damaged) {
            return Optional.of(damaged.getMessage());
        }
        if (images.isEmpty()) {
            return Optional.of(
                    "this build has no CUDA kernels, because nvcc was missing when it was built; install the CUDA"
                            + " toolkit and build Sentei again");
        }
        // A driver runs what toolkits of its own major release made, and of those before.
        int toolkit = images.get().toolkit();
        if (search.version() / 1000 < toolkit / 1000) {
            return Optional.of("the driver " + search.driver() + " is for CUDA " + search.version() / 1000 + "."
                    + search.version() % 1000 / 10 + ", the kernels of this build need CUDA " + toolkit / 1000
                    + "; install a newer driver (CUDA 13 came with 580), or build Sentei with the older toolkit");
        }
        return Optional.empty();
    }
}

package org.sentei.backend.opencl;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.sentei.backend.gpu.GpuBackend;
import org.sentei.backend.gpu.KernelSource;
import org.sentei.kernel.Backend;
import org.sentei.kernel.UserKernel;

/**
 * Provides a {@link GpuBackend} on OpenCL devices.
 *
 * <p>Names no class of LWJGL, which may be absent: {@link OpenClLibrary} does, and is asked only after a look at the class
 * path.
 */
public final class OpenClProvider implements Backend.Provider {
    static final String NAME = "opencl";

    /** Above the processor's own kernels, and below them. */
    private static final int GPU_RANK = 20;

    private static final int PROCESSOR_RANK = 5;
    /** The processor as an OpenCL device: its driver takes a second to load, and is never what {@code auto} wants. */
    private static final String PROCESSOR_DRIVER = "pocl";

    private final Path vendors;

    /** Looks where the loader looks for drivers. */
    public OpenClProvider() {
        this(Path.of(Optional.ofNullable(System.getenv("OCL_ICD_VENDORS")).orElse("/etc/OpenCL/vendors")));
    }

    /** A provider that takes this folder for the loader's list of drivers. */
    OpenClProvider(Path vendors) {
        this.vendors = vendors;
    }

    @Override
    public String name() {
        return NAME;
    }

    /** Below the processor's own kernels unless there is a device other than a processor. */
    @Override
    public int rank() {
        return hasDeviceDriver()
                        && missing().isEmpty()
                        && OpenClLibrary.devices().stream().anyMatch(OpenClLibrary.Found::isUsableGpu)
                ? GPU_RANK
                : PROCESSOR_RANK;
    }

    @Override
    public Optional<String> unavailableBecause() {
        return missing().or(OpenClLibrary::failure).or(() -> OpenClLibrary.unusable(OpenClLibrary.devices()));
    }

    @Override
    public Backend open(Backend.Options options) {
        return new GpuBackend(
                new OpenClDevice(OpenClLibrary.device(options.device()), KernelSource::of, options.memoryBytes()));
    }

    @Override
    public Backend open(Backend.Options options, UserKernel kernel) {
        String source = KernelSource.of(kernel, NAME);
        return new GpuBackend(
                new OpenClDevice(
                        OpenClLibrary.device(options.device()),
                        file -> file.equals(KernelSource.USERS) ? source : KernelSource.of(file),
                        options.memoryBytes()),
                Optional.of(kernel));
    }

    /** Whether a driver is registered that may have another device than the processor; loads nothing. */
    private boolean hasDeviceDriver() {
        if (!Files.isDirectory(vendors)) {
            return Files.exists(vendors);
        }
        try (Stream<Path> files = Files.list(vendors)) {
            List<Path> drivers = files.toList();
            return drivers.stream()
                    .map(file -> String.valueOf(file.getFileName()))
                    .anyMatch(file -> file.endsWith(".icd") && !file.startsWith(PROCESSOR_DRIVER));
        } catch (IOException e) {
            return false;
        }
    }

    private static Optional<String> missing() {
        try {
            for (String name : List.of("org.lwjgl.system.Configuration", "org.lwjgl.opencl.CL")) {
                Class.forName(name, false, OpenClProvider.class.getClassLoader());
            }
            return Optional.empty();
        } catch (ClassNotFoundException e) {
            return Optional.of("LWJGL is not on the class or module path; add org.lwjgl:lwjgl with its natives and"
                    + " org.lwjgl:lwjgl-opencl");
        }
    }
}

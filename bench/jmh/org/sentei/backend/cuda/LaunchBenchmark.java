package org.sentei.backend.cuda;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.LongStream;
import jcuda.Pointer;
import jcuda.driver.CUmodule;
import jcuda.driver.CUstream_flags;
import jcuda.driver.JCudaDriver;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.sentei.backend.gpu.Launch;
import org.sentei.kernel.MemoryBudget;
import org.sentei.platform.LibraryCache;

/**
 * What one launch costs the calling thread, by each way to the driver's {@code cuLaunchKernel}: the same kernel, of four
 * arguments and one group, in the same stream. On the emulated driver with {@code SENTEI_EMULATED_STUB} the driver returns at
 * once, and what is left is the binding; on a real one its own work is part of every figure.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
public class LaunchBenchmark {
    private static final String FILE = "column_moments";
    private static final String ENTRY = "column_moments_count_i64";

    private final CUmodule module = new CUmodule();
    private final Jcuda.Function function = new Jcuda.Function();
    private final Jcuda.Stream stream = new Jcuda.Stream();
    private CudaDriver driver;
    private CudaDevice device;
    private Launch launch;
    private Arena arena;
    private long addresses;
    private Pointer pointers;
    private MethodHandle critical;

    /** Opens the device, and makes one kernel ready for each way. */
    @Setup
    @SuppressWarnings("restricted") // binds one more handle, as the benchmark's subject
    public void open() {
        CudaDriver.Search search = CudaDriver.search();
        if (search.driver() == null) {
            throw new IllegalStateException(search.reason());
        }
        ClassLoader resources = LaunchBenchmark.class.getClassLoader();
        KernelImages images = KernelImages.of(resources)
                .orElseThrow(() -> new IllegalStateException("this build has no CUDA kernels; build it where nvcc is"));
        Jcuda.load(LibraryCache.ofUser(), resources);
        driver = search.driver();
        device = new CudaDevice(
                driver,
                0,
                search.version(),
                images,
                _ -> new byte[0],
                new MemoryBudget("cuda", MemoryBudget.UNLIMITED));
        long count = device.allocate(Long.BYTES);
        launch = new Launch(
                FILE, ENTRY, true, 1, List.of(new Launch.Argument.Matrix(count, 0, 1), new Launch.Argument.Int32(0)));
        device.launch(launch);

        driver.check("cuModuleLoadData", JCudaDriver.cuModuleLoadData(module, images.image(FILE)));
        driver.check("cuModuleGetFunction", JCudaDriver.cuModuleGetFunction(function, module, ENTRY));
        driver.check("cuStreamCreate", JCudaDriver.cuStreamCreate(stream, CUstream_flags.CU_STREAM_NON_BLOCKING));
        arena = Arena.ofConfined();
        MemorySegment slots = arena.allocateFrom(JAVA_LONG, count, 0, 1, 0);
        addresses = arena.allocateFrom(
                        JAVA_LONG,
                        LongStream.range(0, 4)
                                .map(slot -> slots.address() + slot * Long.BYTES)
                                .toArray())
                .address();
        pointers = Pointer.to(
                new Jcuda.HostPointer(slots.address()),
                new Jcuda.HostPointer(slots.address() + 8),
                new Jcuda.HostPointer(slots.address() + 16),
                new Jcuda.HostPointer(slots.address() + 24));
        critical = Linker.nativeLinker()
                .downcallHandle(
                        SymbolLookup.libraryLookup(driver.toString(), arena)
                                .find("cuLaunchKernel")
                                .orElseThrow(),
                        FunctionDescriptor.of(
                                JAVA_INT, JAVA_LONG, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_INT,
                                JAVA_INT, JAVA_LONG, JAVA_LONG, JAVA_LONG),
                        Linker.Option.critical(false));
    }

    /** The driver's queue is empty before the next iteration. */
    @TearDown(Level.Iteration)
    public void drain() {
        driver.check("cuStreamSynchronize", JCudaDriver.cuStreamSynchronize(stream));
        device.sync();
    }

    /** Gives everything back. */
    @TearDown
    public void close() {
        driver.check("cuStreamDestroy", JCudaDriver.cuStreamDestroy(stream));
        driver.check("cuModuleUnload", JCudaDriver.cuModuleUnload(module));
        arena.close();
        device.close();
    }

    /** By FFM with arguments that lie ready: how this backend calls the driver. */
    @Benchmark
    public int ffm() {
        return driver.launch(function.address(), 1, Launch.GROUP, stream.address(), addresses);
    }

    /** The same without a transition of the thread's state: the JVM waits for the driver whenever it collects garbage. */
    @Benchmark
    public int ffmCritical() throws Throwable {
        return (int) critical.invokeExact(
                function.address(), 1, 1, 1, Launch.GROUP, 1, 1, 0, stream.address(), addresses, 0L);
    }

    /**
     * As {@link #ffm}, but a launch of no group at all, which the driver refuses before it does anything: on a real driver
     * the binding costs at most as much.
     */
    @Benchmark
    public int ffmRefused() {
        return driver.launch(function.address(), 0, Launch.GROUP, stream.address(), addresses);
    }

    /** By JCuda with pointers that lie ready, to native memory. */
    @Benchmark
    public int jcuda() {
        return JCudaDriver.cuLaunchKernel(function, 1, 1, 1, Launch.GROUP, 1, 1, 0, stream, pointers, null);
    }

    /** All that this backend does for a launch: the context made current, the kernel looked up, its arguments written. */
    @Benchmark
    public void device() {
        device.launch(launch);
    }
}

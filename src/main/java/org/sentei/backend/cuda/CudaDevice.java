package org.sentei.backend.cuda;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.IntFunction;
import java.util.function.IntSupplier;
import jcuda.driver.CUDA_MEMCPY2D;
import jcuda.driver.CUcontext;
import jcuda.driver.CUdevice;
import jcuda.driver.CUdevice_attribute;
import jcuda.driver.CUevent;
import jcuda.driver.CUevent_flags;
import jcuda.driver.CUgraph;
import jcuda.driver.CUmemorytype;
import jcuda.driver.CUmodule;
import jcuda.driver.CUstreamCaptureMode;
import jcuda.driver.CUstream_flags;
import jcuda.driver.JCudaDriver;
import org.sentei.backend.gpu.GpuDevice;
import org.sentei.backend.gpu.KernelSource;
import org.sentei.backend.gpu.Launch;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.DeviceInfo;
import org.sentei.kernel.MemoryBudget;

/**
 * One NVIDIA GPU through its primary context. Kernels run on one stream, copies to the device on another: they wait for
 * kernels only where memory has been there longer than the last launch, so that the weights of the next block travel while
 * this one computes.
 */
final class CudaDevice implements GpuDevice {
    private final CudaDriver driver;
    private final KernelImages images;
    /** A user's kernels for a compute capability, for example 90. */
    private final IntFunction<byte[]> users;

    private final MemoryBudget budget;
    private final CUdevice device = new CUdevice();
    private final Context context = new Context();
    private final Jcuda.Stream compute = new Jcuda.Stream();
    private final Jcuda.Stream upload = new Jcuda.Stream();
    private final CUevent computed = new CUevent();
    private final CUevent uploaded = new CUevent();
    private final DeviceInfo info;
    private final int capability;
    private final Staging staging;
    private final TunedKernels tuned;
    /** Null where products run by the kernels of this build. */
    private final CublasLt blas;
    /** Memory of the device for {@link #blas}; 0 until it is needed. */
    private long workspace;

    private final Arena arena = Arena.ofConfined();
    private final Map<String, CUmodule> modules = new HashMap<>();
    private final Map<String, Kernel> kernels = new HashMap<>();
    /** Memory that is allocated, and how many launches there had been before it. */
    private final Map<Long, Long> memory = new HashMap<>();

    private long launches;
    /** Undone when the device closes, last first. */
    private final List<Release> releases = new ArrayList<>();
    /** After an error that a context does not recover from, every call gives it again: closing has nothing to report. */
    private boolean poisoned;

    private boolean closed;

    /** The context, whose handle can be read. */
    private static final class Context extends CUcontext {
        long address() {
            return getNativePointer();
        }
    }

    /**
     * What gives a resource back.
     *
     * @param call returns a status, 0 for success
     * @param symbol name of a status
     */
    private record Release(IntSupplier call, IntFunction<String> symbol) {}

    /**
     * Opens a device for the calling thread, which must stay on its carrier: a context belongs to a thread of the system.
     *
     * @param users what {@link KernelSource#USERS} is, compiled for a compute capability
     * @param budget what the device takes for itself comes from it
     * @throws DeviceException UNSUPPORTED for a device that is not there or that the kernels do not serve; others as they
     *     occur, with nothing left open
     */
    CudaDevice(
            CudaDriver driver,
            int ordinal,
            int version,
            KernelImages images,
            IntFunction<byte[]> users,
            MemoryBudget budget) {
        this.driver = driver;
        this.users = users;
        this.budget = budget;
        this.images = images;
        if (Thread.currentThread().isVirtual()) {
            throw CudaDriver.unsupported(
                    "opening the device on a virtual thread",
                    "a CUDA context belongs to one thread of the system; use a platform thread");
        }
        try {
            driver.check("cuDeviceGet of device " + ordinal, JCudaDriver.cuDeviceGet(device, ordinal));
            capability = 10 * attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
                    + attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
            if (!images.serve(capability)) {
                throw CudaDriver.unsupported(
                        "opening device " + ordinal,
                        "its compute capability is " + capability / 10 + "." + capability % 10
                                + ", the kernels of this build are for " + String.join(", ", images.targets())
                                + "; use a GPU of 8.0 or newer, or build Sentei with its target");
            }
            acquire("cuDevicePrimaryCtxRetain", JCudaDriver.cuDevicePrimaryCtxRetain(context, device), () -> {
                driver.setCurrent(0);
                return JCudaDriver.cuDevicePrimaryCtxRelease(device);
            });
            use();
            CublasLt.Search search = CublasLt.search();
            blas = search.library();
            if (blas != null) {
                releases.add(new Release(blas::close, CublasLt::symbol));
            }
            info = new DeviceInfo(
                    CudaDriver.NAME,
                    deviceName(),
                    "CUDA " + version / 1000 + "." + version % 1000 / 10 + ", " + search.choice(),
                    totalMemory(),
                    "sm_" + capability);
            tuned = new TunedKernels(attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT));
            stream(compute);
            stream(upload);
            event(computed);
            event(uploaded);
            staging = new Staging();
        } catch (DeviceException e) {
            release(e);
            throw e;
        }
    }

    private int attribute(int which) {
        int[] value = new int[1];
        driver.check("cuDeviceGetAttribute", JCudaDriver.cuDeviceGetAttribute(value, which, device));
        return value[0];
    }

    private String deviceName() {
        byte[] name = new byte[256];
        driver.check("cuDeviceGetName", JCudaDriver.cuDeviceGetName(name, name.length, device));
        return MemorySegment.ofArray(name).getString(0);
    }

    private long totalMemory() {
        long[] bytes = new long[1];
        driver.check("cuDeviceTotalMem", JCudaDriver.cuDeviceTotalMem(bytes, device));
        return bytes[0];
    }

    private void stream(Jcuda.Stream stream) {
        int code = JCudaDriver.cuStreamCreate(stream, CUstream_flags.CU_STREAM_NON_BLOCKING);
        acquire("cuStreamCreate", code, () -> JCudaDriver.cuStreamDestroy(stream));
    }

    private void event(CUevent event) {
        int code = JCudaDriver.cuEventCreate(event, CUevent_flags.CU_EVENT_DISABLE_TIMING);
        acquire("cuEventCreate", code, () -> JCudaDriver.cuEventDestroy(event));
    }

    private void acquire(String call, int code, IntSupplier release) {
        check(call, code);
        releases.add(new Release(release, driver::symbol));
    }

    private void check(String call, int code) {
        if (code != 0) {
            poisoned |= CudaDriver.isSticky(code);
            driver.check(call, code);
        }
    }

    /** Makes the context current: another device may have been used on this thread since. */
    private void use() {
        check("cuCtxSetCurrent", driver.setCurrent(context.address()));
    }

    @Override
    public DeviceInfo info() {
        return info;
    }

    @Override
    public boolean hasFp64() {
        return true;
    }

    @Override
    public long allocate(long bytes) {
        use();
        Jcuda.DevicePointer pointer = new Jcuda.DevicePointer();
        check("cuMemAlloc of " + bytes + " bytes", JCudaDriver.cuMemAlloc(pointer, bytes));
        memory.put(pointer.address(), launches);
        return pointer.address();
    }

    @Override
    public void free(long handle) {
        memory.remove(handle);
        if (poisoned) {
            return; // goes with the context
        }
        sync();
        check("cuMemFree", JCudaDriver.cuMemFree(new Jcuda.DevicePointer(handle)));
    }

    @Override
    public void copyIn(MemorySegment source, Region target) {
        use();
        if (memory.get(target.handle()) != launches) {
            check("cuEventRecord", JCudaDriver.cuEventRecord(computed, compute));
            check("cuStreamWaitEvent", JCudaDriver.cuStreamWaitEvent(upload, computed, 0));
        }
        for (Piece piece : pieces(target)) {
            Staging.Slab slab = staging.next();
            MemorySegment.copy(source, piece.packed(), slab.memory, 0, piece.bytes());
            check(
                    "copying to the device",
                    piece.height() == 1
                            ? JCudaDriver.cuMemcpyHtoDAsync(
                                    new Jcuda.DevicePointer(target.handle() + piece.offset()),
                                    new Jcuda.HostPointer(slab.memory.address()),
                                    piece.bytes(),
                                    upload)
                            : JCudaDriver.cuMemcpy2DAsync(piece.from(slab, target), upload));
            slab.used(upload);
        }
        check("cuEventRecord", JCudaDriver.cuEventRecord(uploaded, upload));
        check("cuStreamWaitEvent", JCudaDriver.cuStreamWaitEvent(compute, uploaded, 0));
    }

    @Override
    public void copyOut(Region source, MemorySegment target) {
        use();
        List<Piece> pieces = pieces(source);
        Staging.Slab[] slabs = new Staging.Slab[pieces.size()];
        for (int i = 0; i < pieces.size() + Staging.SLABS - 1; i++) {
            int arriving = i - (Staging.SLABS - 1);
            if (arriving >= 0) {
                slabs[arriving].await();
                MemorySegment.copy(
                        slabs[arriving].memory,
                        0,
                        target,
                        pieces.get(arriving).packed(),
                        pieces.get(arriving).bytes());
            }
            if (i < pieces.size()) {
                Piece piece = pieces.get(i);
                Staging.Slab slab = staging.next();
                slabs[i] = slab;
                check(
                        "copying from the device",
                        piece.height() == 1
                                ? JCudaDriver.cuMemcpyDtoHAsync(
                                        new Jcuda.HostPointer(slab.memory.address()),
                                        new Jcuda.DevicePointer(source.handle() + piece.offset()),
                                        piece.bytes(),
                                        compute)
                                : JCudaDriver.cuMemcpy2DAsync(piece.to(slab, source), compute));
                slab.used(compute);
            }
        }
    }

    /**
     * A part of a copy that fits a slab.
     *
     * @param packed where it begins on the packed side, in bytes
     * @param offset where it begins in the device's memory
     * @param width bytes of a row
     * @param height rows, more than one only where gaps lie between them
     */
    private record Piece(long packed, long offset, long width, long height) {
        long bytes() {
            return width * height;
        }

        CUDA_MEMCPY2D from(Staging.Slab slab, Region target) {
            CUDA_MEMCPY2D copy = size();
            copy.srcMemoryType = CUmemorytype.CU_MEMORYTYPE_HOST;
            copy.srcHost = new Jcuda.HostPointer(slab.memory.address());
            copy.srcPitch = width;
            copy.dstMemoryType = CUmemorytype.CU_MEMORYTYPE_DEVICE;
            copy.dstDevice = new Jcuda.DevicePointer(target.handle() + offset);
            copy.dstPitch = target.strideBytes();
            return copy;
        }

        CUDA_MEMCPY2D to(Staging.Slab slab, Region source) {
            CUDA_MEMCPY2D copy = size();
            copy.srcMemoryType = CUmemorytype.CU_MEMORYTYPE_DEVICE;
            copy.srcDevice = new Jcuda.DevicePointer(source.handle() + offset);
            copy.srcPitch = source.strideBytes();
            copy.dstMemoryType = CUmemorytype.CU_MEMORYTYPE_HOST;
            copy.dstHost = new Jcuda.HostPointer(slab.memory.address());
            copy.dstPitch = width;
            return copy;
        }

        private CUDA_MEMCPY2D size() {
            CUDA_MEMCPY2D copy = new CUDA_MEMCPY2D();
            copy.WidthInBytes = width;
            copy.Height = height;
            return copy;
        }
    }

    private static List<Piece> pieces(Region region) {
        List<Piece> pieces = new ArrayList<>();
        if (region.isPacked()) {
            addPacked(pieces, 0, region.offset(), region.rows() * region.rowBytes());
        } else if (region.rowBytes() <= Staging.SLAB_BYTES && region.strideBytes() <= Integer.MAX_VALUE) {
            long height = Staging.SLAB_BYTES / region.rowBytes();
            for (long row = 0; row < region.rows(); row += height) {
                pieces.add(new Piece(
                        row * region.rowBytes(),
                        region.offset() + row * region.strideBytes(),
                        region.rowBytes(),
                        Math.min(height, region.rows() - row)));
            }
        } else {
            for (long row = 0; row < region.rows(); row++) {
                addPacked(
                        pieces,
                        row * region.rowBytes(),
                        region.offset() + row * region.strideBytes(),
                        region.rowBytes());
            }
        }
        return pieces;
    }

    private static void addPacked(List<Piece> pieces, long packed, long offset, long bytes) {
        for (long done = 0; done < bytes; done += Staging.SLAB_BYTES) {
            pieces.add(new Piece(packed + done, offset + done, Math.min(Staging.SLAB_BYTES, bytes - done), 1));
        }
    }

    /** Pinned memory that copies pass through, slab by slab in turn: filled again only when its last copy is done. */
    private final class Staging {
        static final long SLAB_BYTES = 32L << 20;
        static final int SLABS = 3;

        private final Slab[] slabs = new Slab[SLABS];
        private int turn;

        /** The slab whose copy is the oldest, free to use. */
        Slab next() {
            int index = turn++ % SLABS;
            if (slabs[index] == null) {
                slabs[index] = new Slab();
            }
            slabs[index].await();
            return slabs[index];
        }

        private final class Slab {
            final MemorySegment memory = driver.allocatePinned(SLAB_BYTES);
            private final CUevent done = new CUevent();

            Slab() {
                releases.add(new Release(() -> driver.freePinned(memory), driver::symbol));
                event(done);
            }

            /** The copy that uses it was the last call on a stream. */
            void used(Jcuda.Stream stream) {
                check("cuEventRecord", JCudaDriver.cuEventRecord(done, stream));
            }

            /** Waits for that copy; an event that was never recorded is done. */
            void await() {
                check("cuEventSynchronize", JCudaDriver.cuEventSynchronize(done));
            }
        }
    }

    @Override
    public void launch(Launch portable) {
        use();
        launches++;
        if (isProduct(portable)) {
            byBlas(() -> blas.run(portable, workspace(), compute.address()));
            return;
        }
        Launch launch = chosen(portable);
        Kernel kernel = kernel(launch);
        kernel.set(launch.arguments());
        check(
                "launching " + launch.entry(),
                driver.launch(kernel.function, launch.groups(), Launch.GROUP, compute.address(), kernel.addresses));
    }

    private Launch chosen(Launch portable) {
        return portable.file().equals(KernelSource.USERS) ? portable : tuned.of(portable);
    }

    private boolean isProduct(Launch launch) {
        return blas != null && CublasLt.serves(launch);
    }

    private long workspace() {
        if (workspace == 0) {
            budget.take(CublasLt.WORKSPACE_BYTES);
            Jcuda.DevicePointer pointer = new Jcuda.DevicePointer();
            int code = JCudaDriver.cuMemAlloc(pointer, CublasLt.WORKSPACE_BYTES);
            if (code != 0) {
                budget.give(CublasLt.WORKSPACE_BYTES);
            }
            acquire(
                    "cuMemAlloc of " + CublasLt.WORKSPACE_BYTES + " bytes for cuBLASLt",
                    code,
                    () -> JCudaDriver.cuMemFree(pointer));
            workspace = pointer.address();
        }
        return workspace;
    }

    /** Where the context is of no use after a failure, cuBLASLt says no more than that it failed. */
    private void byBlas(Runnable work) {
        try {
            work.run();
        } catch (DeviceException e) {
            poisoned |= CudaDriver.isSticky(JCudaDriver.cuStreamSynchronize(upload));
            throw e;
        }
    }

    @Override
    public void load(String file) {
        use();
        module(file);
    }

    private CUmodule module(String file) {
        CUmodule module = modules.get(file);
        if (module == null) {
            byte[] image = file.equals(KernelSource.USERS) ? users.apply(capability) : images.image(file);
            CUmodule loaded = new CUmodule();
            int code = JCudaDriver.cuModuleLoadData(loaded, image);
            acquire("loading the kernels of " + file, code, () -> JCudaDriver.cuModuleUnload(loaded));
            modules.put(file, loaded);
            module = loaded;
        }
        return module;
    }

    private Kernel kernel(Launch launch) {
        Kernel known = kernels.get(launch.entry());
        if (known != null) {
            return known;
        }
        CUmodule module = module(launch.file());
        Jcuda.Function function = new Jcuda.Function();
        check(
                "finding the kernel " + launch.entry(),
                JCudaDriver.cuModuleGetFunction(function, module, launch.entry()));
        Kernel kernel = new Kernel(function.address(), launch.arguments());
        kernels.put(launch.entry(), kernel);
        return kernel;
    }

    /** A kernel with room for its arguments, which a launch copies: written in place every time. */
    private final class Kernel {
        private final long function;
        private final MemorySegment slots;
        private final long addresses;

        Kernel(long function, List<Launch.Argument> shape) {
            this.function = function;
            long count = shape.stream()
                    .mapToLong(argument -> argument instanceof Launch.Argument.Matrix ? 3 : 1)
                    .sum();
            slots = arena.allocate(ValueLayout.JAVA_LONG, count);
            MemorySegment pointers = arena.allocate(ValueLayout.JAVA_LONG, count);
            for (long i = 0; i < count; i++) {
                pointers.setAtIndex(ValueLayout.JAVA_LONG, i, slots.address() + i * Long.BYTES);
            }
            addresses = pointers.address();
        }

        /** Every argument in a slot of eight bytes, of which the kernel takes as many as it declares. */
        void set(List<Launch.Argument> arguments) {
            long at = 0;
            for (Launch.Argument argument : arguments) {
                switch (argument) {
                    case Launch.Argument.Matrix(long handle, long first, long stride) -> {
                        slots.setAtIndex(ValueLayout.JAVA_LONG, at++, handle);
                        slots.setAtIndex(ValueLayout.JAVA_LONG, at++, first);
                        slots.setAtIndex(ValueLayout.JAVA_LONG, at++, stride);
                    }
                    case Launch.Argument.Int32(int value) -> slots.setAtIndex(ValueLayout.JAVA_LONG, at++, value);
                    case Launch.Argument.Int64(long value) -> slots.setAtIndex(ValueLayout.JAVA_LONG, at++, value);
                    case Launch.Argument.Fp32(float value) ->
                        slots.setAtIndex(ValueLayout.JAVA_LONG, at++, Float.floatToRawIntBits(value));
                    case Launch.Argument.Fp64(double value) ->
                        slots.setAtIndex(ValueLayout.JAVA_LONG, at++, Double.doubleToRawLongBits(value));
                }
            }
        }
    }

    @Override
    public Prepared prepare(List<Launch> all) {
        use();
        // Loading a module, taking memory and choosing an algorithm are no work for a stream, and not allowed while it
        // captures.
        for (Launch launch : all) {
            if (isProduct(launch)) {
                workspace();
                byBlas(() -> blas.prepare(launch));
            } else {
                kernel(chosen(launch));
            }
        }
        CUgraph graph = new CUgraph();
        check(
                "cuStreamBeginCapture",
                JCudaDriver.cuStreamBeginCapture(compute, CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
        DeviceException failure = null;
        try {
            all.forEach(this::launch);
        } catch (DeviceException e) {
            failure = e;
        }
        int ended = JCudaDriver.cuStreamEndCapture(compute, graph);
        if (failure != null) {
            if (ended == 0) {
                JCudaDriver.cuGraphDestroy(graph);
            }
            throw failure;
        }
        check("cuStreamEndCapture", ended);
        Jcuda.Graph executable = new Jcuda.Graph();
        try {
            check("cuGraphInstantiate", JCudaDriver.cuGraphInstantiate(executable, graph, 0));
        } finally {
            JCudaDriver.cuGraphDestroy(graph);
        }
        return new CudaGraph(executable);
    }

    /** A CUDA graph of launches. */
    private final class CudaGraph implements Prepared {
        private final Jcuda.Graph executable;
        private boolean destroyed;

        CudaGraph(Jcuda.Graph executable) {
            this.executable = executable;
            releases.add(new Release(this::destroy, driver::symbol));
        }

        @Override
        public void run() {
            use();
            launches++;
            check("cuGraphLaunch", driver.launchGraph(executable.address(), compute.address()));
        }

        private int destroy() {
            if (destroyed) {
                return 0;
            }
            destroyed = true;
            return JCudaDriver.cuGraphExecDestroy(executable);
        }

        @Override
        public void close() {
            if (!poisoned) {
                sync();
                check("cuGraphExecDestroy", destroy());
            }
        }
    }

    @Override
    public void sync() {
        use();
        check("cuStreamSynchronize", JCudaDriver.cuStreamSynchronize(upload));
        check("cuStreamSynchronize", JCudaDriver.cuStreamSynchronize(compute));
    }

    @Override
    public void close() {
        if (closed) {
            return;
        }
        DeviceException failure = null;
        if (!poisoned) {
            try {
                sync();
                for (long handle : List.copyOf(memory.keySet())) {
                    free(handle);
                }
            } catch (DeviceException e) {
                failure = e;
            }
        }
        failure = release(failure);
        if (failure != null) {
            throw failure;
        }
    }

    /**
     * Gives everything back.
     *
     * @param failure why, or null
     * @return that, or else the first that failed on the way, with what failed after it; null when nothing did
     */
    private DeviceException release(DeviceException failure) {
        closed = true;
        DeviceException first = failure;
        for (Release release : releases.reversed()) {
            int code = release.call().getAsInt();
            if (code != 0 && !poisoned) {
                DeviceException next = new DeviceException(
                        CudaDriver.NAME, "closing", code, release.symbol().apply(code), DeviceException.Kind.INTERNAL);
                if (first == null) {
                    first = next;
                } else {
                    first.addSuppressed(next);
                }
            }
        }
        arena.close();
        return first;
    }
}

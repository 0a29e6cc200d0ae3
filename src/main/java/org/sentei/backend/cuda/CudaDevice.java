package org.sentei.backend.cuda;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Queue;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
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
import org.sentei.kernel.Download;
import org.sentei.kernel.MemoryBudget;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One NVIDIA GPU through its primary context. Kernels, and copies that they wait for anyway, run on one stream; two more are
 * for what is copied beside the kernels, one a direction ({@link #upload}, {@link #download}). Events keep them in order, and
 * memory that is freed is kept, so that nothing makes the host wait but what it wants to read.
 */
final class CudaDevice implements GpuDevice {
    private static final Logger LOG = LoggerFactory.getLogger(CudaDevice.class);
    /** What part of the device's memory may be kept for reuse. */
    private static final long KEPT_SHARE = 4;

    private final CudaDriver driver;
    private final KernelImages images;
    /** A user's kernels for a compute capability, for example 90. */
    private final IntFunction<byte[]> users;

    private final CUdevice device = new CUdevice();
    private final Context context = new Context();
    private final Jcuda.Stream compute = new Jcuda.Stream();
    private final Jcuda.Stream upload = new Jcuda.Stream();
    private final Jcuda.Stream download = new Jcuda.Stream();
    /** Recorded behind the last launch whenever a copy shall come behind it. */
    private final CUevent computed = new CUevent();

    private final DeviceInfo info;
    private final int capability;
    private final MemoryPool pool;
    /** Slabs of the device's own thread. */
    private final Staging staging = new Staging(Staging.SLAB_BYTES);

    private final TunedKernels tuned;
    private final Timeline timeline;
    /** Null where products run by the kernels of this build. */
    private final CublasLt blas;
    /** Memory of the device for {@link #blas}; 0 until it is needed. */
    private long workspace;

    private final Arena arena = Arena.ofConfined();
    private final Map<String, CUmodule> modules = new HashMap<>();
    private final Map<String, Kernel> kernels = new HashMap<>();
    /** Pinned memory from {@link #allocateHost}: bytes by address. */
    private final NavigableMap<Long, Long> pinned = new TreeMap<>();
    /** Downloads that may not have arrived, by the memory that they read: nothing may write there before. */
    private final Map<Long, Arriving> downloads = new HashMap<>();
    /** Events that nobody uses. */
    private final Deque<CUevent> spare = new ArrayDeque<>();
    /** Undone when the device closes, last first; copying threads add to it too. */
    private final List<Release> releases = Collections.synchronizedList(new ArrayList<>());
    /** Null until something is uploaded that is not pinned. */
    private Uploader uploader;
    /** After an error that a context does not recover from, every call gives it again: closing has nothing to report. */
    private volatile boolean poisoned;

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
            stream(download);
            event(computed);
            pool = new MemoryPool(new Memory(), budget, info.memoryBytes() / KEPT_SHARE);
            timeline = Timeline.find(driver, compute);
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

    /** What the driver itself is asked for. */
    private final class Memory implements MemoryPool.Source {
        @Override
        public long allocate(long bytes) {
            use();
            Jcuda.DevicePointer pointer = new Jcuda.DevicePointer();
            check("cuMemAlloc of " + bytes + " bytes", JCudaDriver.cuMemAlloc(pointer, bytes));
            return pointer.address();
        }

        @Override
        public void free(long handle) {
            sync();
            downloads.remove(handle);
            check("cuMemFree", JCudaDriver.cuMemFree(new Jcuda.DevicePointer(handle)));
        }
    }

    @Override
    public long allocate(long bytes) {
        return pool.allocate(bytes);
    }

    @Override
    public void free(long handle) {
        if (!poisoned) { // otherwise it goes with the context
            pool.free(handle);
        }
    }

    @Override
    public MemorySegment allocateHost(long bytes, Arena owner) {
        use();
        MemorySegment memory;
        try {
            memory = driver.allocatePinned(Math.max(1, bytes));
        } catch (DeviceException e) {
            if (e.kind() != DeviceException.Kind.OUT_OF_MEMORY) {
                throw e;
            }
            LOG.warn(
                    "{} bytes of host memory cannot be pinned, copies of them will be slower: {}",
                    bytes,
                    e.getMessage());
            return GpuDevice.super.allocateHost(bytes, owner);
        }
        pinned.put(memory.address(), memory.byteSize());
        return CudaDriver.owned(memory, bytes, owner, this::freeHost);
    }

    private void freeHost(MemorySegment memory) {
        pinned.remove(memory.address());
        if (!closed && !poisoned) {
            sync();
            check("cuMemFreeHost", driver.freePinned(memory));
        }
    }

    private boolean isPinned(MemorySegment memory) {
        Map.Entry<Long, Long> before = pinned.floorEntry(memory.address());
        return before != null && memory.address() + memory.byteSize() <= before.getKey() + before.getValue();
    }

    private CUevent event() {
        CUevent event = spare.poll();
        if (event == null) {
            event = new CUevent();
            event(event);
        }
        return event;
    }

    private void record(CUevent event, Jcuda.Stream stream) {
        check("cuEventRecord", JCudaDriver.cuEventRecord(event, stream));
    }

    private void await(Jcuda.Stream stream, CUevent event) {
        check("cuStreamWaitEvent", JCudaDriver.cuStreamWaitEvent(stream, event, 0));
    }

    /** What comes on this stream from here on is behind the download from that memory. */
    private void settle(long handle, Jcuda.Stream stream) {
        Arriving arriving = downloads.remove(handle);
        if (arriving != null) {
            await(stream, arriving.done);
        }
    }

    private void settleAll() {
        List.copyOf(downloads.keySet()).forEach(handle -> settle(handle, compute));
    }

    @Override
    public Transfer upload(MemorySegment source, long handle) {
        use();
        if (blas != null) {
            workspace(); // which what is uploaded cannot give way to
        }
        settle(handle, upload);
        record(computed, compute);
        await(upload, computed);
        if (isPinned(source)) {
            Pinned transfer = new Pinned();
            timeline.span(
                    Timeline.Lane.UPLOAD,
                    Timeline.Kind.COPY,
                    "upload",
                    upload,
                    () -> toDevice(source.address(), handle, source.byteSize(), upload));
            record(transfer.done, upload);
            return transfer;
        }
        if (uploader == null) {
            uploader = new Uploader();
        }
        return uploader.begin(source, handle);
    }

    private void toDevice(long source, long target, long bytes, Jcuda.Stream stream) {
        check(
                "copying to the device",
                JCudaDriver.cuMemcpyHtoDAsync(
                        new Jcuda.DevicePointer(target), new Jcuda.HostPointer(source), bytes, stream));
    }

    /** From memory that the device reads by itself. */
    private final class Pinned implements Transfer {
        private final CUevent done = event();
        private boolean over;

        @Override
        public void order() {
            CudaDevice.this.await(compute, done);
        }

        @Override
        public void await() {
            if (!over && !poisoned) {
                check("cuEventSynchronize", JCudaDriver.cuEventSynchronize(done));
                over = true;
                spare.add(done);
            }
        }

        @Override
        public void cancel() {}
    }

    /**
     * Threads that bring memory that is not pinned: one core copies a fraction of what the device takes, and files that are
     * read for the first time make it wait.
     */
    private final class Uploader {
        private static final int MOST_THREADS = 4;
        /** Small, for what is not pinned shall not stand long before what is and is wanted sooner. */
        private static final long PIECE_BYTES = 8L << 20;

        private final int count = Math.clamp(Runtime.getRuntime().availableProcessors() / 2, 1, MOST_THREADS);
        private final ExecutorService threads = Executors.newFixedThreadPool(
                count, Thread.ofPlatform().daemon().name("sentei-upload-", 0).factory());
        /** As many as threads. */
        private final Queue<Staging> slabs = new ConcurrentLinkedQueue<>();

        Uploader() {
            for (int i = 0; i < count; i++) {
                slabs.add(new Staging(PIECE_BYTES));
            }
        }

        Transfer begin(MemorySegment source, long handle) {
            List<Piece> pieces = new ArrayList<>();
            addPacked(pieces, 0, 0, source.byteSize(), PIECE_BYTES);
            Staged transfer = new Staged(pieces.size());
            pieces.forEach(piece -> threads.execute(() -> transfer.copy(source, handle, piece)));
            return transfer;
        }

        void close() {
            threads.close();
        }

        /** Piece by piece through pinned memory. */
        private final class Staged implements Transfer {
            private final CUevent done = event();
            private final AtomicInteger left;
            private final AtomicReference<Throwable> failure = new AtomicReference<>();
            /** When no piece is left to be copied by a thread. */
            private final CompletableFuture<Void> read = new CompletableFuture<>();

            private volatile boolean cancelled;
            private boolean over;

            Staged(int pieces) {
                left = new AtomicInteger(pieces);
            }

            /** On a thread of the uploader. */
            void copy(MemorySegment source, long handle, Piece piece) {
                Staging own = slabs.remove();
                try {
                    if (!cancelled && failure.get() == null) {
                        use();
                        through(own.next(), source, handle, piece);
                    }
                } catch (RuntimeException | Error e) {
                    failure.compareAndSet(null, e);
                } finally {
                    slabs.add(own);
                    if (left.decrementAndGet() == 0) {
                        finish();
                    }
                }
            }

            private void through(Staging.Slab slab, MemorySegment source, long handle, Piece piece) {
                MemorySegment.copy(source, piece.packed(), slab.memory, 0, piece.bytes());
                timeline.span(Timeline.Lane.UPLOAD, Timeline.Kind.COPY, "upload", upload, () -> {
                    toDevice(slab.memory.address(), handle + piece.offset(), piece.bytes(), upload);
                    slab.used(upload);
                });
            }

            private void finish() {
                try {
                    if (failure.get() == null) {
                        use();
                        record(done, upload);
                    }
                } catch (RuntimeException | Error e) {
                    failure.set(e);
                } finally {
                    read.complete(null);
                }
            }

            @Override
            public void order() {
                read.join();
                switch (failure.get()) {
                    case null -> CudaDevice.this.await(compute, done);
                    case DeviceException e -> throw e;
                    case Throwable e -> throw CudaDriver.broken("copying to the device", e);
                }
            }

            @Override
            public void await() {
                read.join();
                if (!over) {
                    over = true;
                    spare.add(done);
                }
            }

            @Override
            public void cancel() {
                cancelled = true;
            }
        }
    }

    @Override
    public void copyIn(MemorySegment source, Region target) {
        use();
        settle(target.handle(), compute);
        for (Piece piece : pieces(target)) {
            Staging.Slab slab = staging.next();
            MemorySegment.copy(source, piece.packed(), slab.memory, 0, piece.bytes());
            timeline.span(Timeline.Lane.COMPUTE, Timeline.Kind.COPY, "copy_in", compute, () -> {
                if (piece.height() == 1) {
                    toDevice(slab.memory.address(), target.handle() + piece.offset(), piece.bytes(), compute);
                } else {
                    check("copying to the device", JCudaDriver.cuMemcpy2DAsync(piece.from(slab, target), compute));
                }
                slab.used(compute);
            });
        }
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
                timeline.span(Timeline.Lane.COMPUTE, Timeline.Kind.COPY, "copy_out", compute, () -> {
                    if (piece.height() == 1) {
                        toHost(source.handle() + piece.offset(), slab.memory.address(), piece.bytes(), compute);
                    } else {
                        check("copying from the device", JCudaDriver.cuMemcpy2DAsync(piece.to(slab, source), compute));
                    }
                    slab.used(compute);
                });
            }
        }
    }

    private void toHost(long source, long target, long bytes, Jcuda.Stream stream) {
        check(
                "copying from the device",
                JCudaDriver.cuMemcpyDtoHAsync(
                        new Jcuda.HostPointer(target), new Jcuda.DevicePointer(source), bytes, stream));
    }

    @Override
    public Download download(Region source, MemorySegment target) {
        if (!source.isPacked() || !isPinned(target)) {
            copyOut(source, target);
            return Download.DONE;
        }
        use();
        record(computed, compute);
        await(download, computed);
        Arriving arriving = new Arriving(source.handle());
        timeline.span(
                Timeline.Lane.DOWNLOAD,
                Timeline.Kind.COPY,
                "download",
                download,
                () -> toHost(source.handle() + source.offset(), target.address(), target.byteSize(), download));
        record(arriving.done, download);
        downloads.put(source.handle(), arriving);
        return arriving;
    }

    private final class Arriving implements Download {
        private final long handle;
        private final CUevent done = event();
        private boolean over;

        Arriving(long handle) {
            this.handle = handle;
        }

        @Override
        public void await() {
            if (!over) {
                use();
                check("cuEventSynchronize", JCudaDriver.cuEventSynchronize(done));
                over = true;
                downloads.remove(handle, this);
                spare.add(done);
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
            addPacked(pieces, 0, region.offset(), region.rows() * region.rowBytes(), Staging.SLAB_BYTES);
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
                        region.rowBytes(),
                        Staging.SLAB_BYTES);
            }
        }
        return pieces;
    }

    private static void addPacked(List<Piece> pieces, long packed, long offset, long bytes, long most) {
        for (long done = 0; done < bytes; done += most) {
            pieces.add(new Piece(packed + done, offset + done, Math.min(most, bytes - done), 1));
        }
    }

    /** Pinned memory that copies pass through, slab by slab in turn: filled again only when its last copy is done. */
    private final class Staging {
        static final long SLAB_BYTES = 32L << 20;
        static final int SLABS = 3;

        private final long slabBytes;
        private final Slab[] slabs = new Slab[SLABS];
        private int turn;

        Staging(long slabBytes) {
            this.slabBytes = slabBytes;
        }

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
            final MemorySegment memory = driver.allocatePinned(slabBytes);
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
    public void launch(Launch launch) {
        use();
        if (!downloads.isEmpty()) {
            for (Launch.Argument argument : launch.arguments()) {
                if (argument instanceof Launch.Argument.Matrix matrix) {
                    settle(matrix.handle(), compute);
                }
            }
        }
        timeline.span(Timeline.Lane.COMPUTE, Timeline.Kind.KERNEL, launch.entry(), compute, () -> enqueue(launch));
    }

    private void enqueue(Launch portable) {
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
            try {
                workspace = pool.allocate(CublasLt.WORKSPACE_BYTES);
            } catch (DeviceException e) {
                throw new DeviceException(
                        CudaDriver.NAME,
                        "allocating " + CublasLt.WORKSPACE_BYTES + " bytes for cuBLASLt",
                        e.getMessage(),
                        e.kind(),
                        e);
            }
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
        settleAll();
        CUgraph graph = new CUgraph();
        check(
                "cuStreamBeginCapture",
                JCudaDriver.cuStreamBeginCapture(compute, CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
        DeviceException failure = null;
        try {
            all.forEach(this::enqueue);
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
            settleAll();
            timeline.span(
                    Timeline.Lane.COMPUTE,
                    Timeline.Kind.KERNEL,
                    "graph",
                    compute,
                    () -> check("cuGraphLaunch", driver.launchGraph(executable.address(), compute.address())));
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
        for (Jcuda.Stream stream : List.of(upload, download, compute)) {
            check("cuStreamSynchronize", JCudaDriver.cuStreamSynchronize(stream));
        }
    }

    @Override
    public void close() {
        if (closed) {
            return;
        }
        if (uploader != null) {
            uploader.close();
        }
        DeviceException failure = null;
        if (!poisoned) {
            try {
                sync();
                timeline.write();
                pool.clear();
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

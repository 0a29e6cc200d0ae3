package org.sentei.backend.gpu;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.BooleanSupplier;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Buffer;
import org.sentei.kernel.Ceilings;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.DeviceInfo;
import org.sentei.kernel.Download;
import org.sentei.kernel.Op;
import org.sentei.kernel.Sequence;
import org.sentei.kernel.Upload;
import org.sentei.kernel.UserKernel;
import org.sentei.kernel.View;
import org.sentei.tensor.DType;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** A backend on a {@link GpuDevice}: checks what is asked for, and runs ops by the kernels of {@link LaunchTable}. */
public final class GpuBackend implements Backend {
    private static final long ALIGNMENT = 64;
    /** Memory between kernels that is kept for the next op; beyond, it goes back to the device. */
    private static final long KEPT_BYTES = 64L << 20;

    private static final Logger LOG = LoggerFactory.getLogger(GpuBackend.class);
    private final String name;
    private final GpuDevice device;
    /** Entries that a user's kernels define. */
    private final Set<String> replaced;

    private final Thread owner = Thread.currentThread();
    /** One that is not the backend's: drivers copy by threads of their own. */
    private final Thread elsewhere = new Thread();

    private final View fault;
    private final Scratch scratch = new Scratch();
    /** Memory that is filled before anybody has asked for it, the oldest first. */
    private final Deque<Ahead> aheads = new ArrayDeque<>();
    /** Ops that may have raised the fault since it was looked at, by their numbers. */
    private final Map<Integer, Op> suspects = new HashMap<>();

    private int lastNumber;
    private boolean closed;

    /** A backend that belongs to the calling thread, and owns the device from here on. */
    public GpuBackend(GpuDevice device) {
        this(device, Optional.empty());
    }

    /**
     * As {@link #GpuBackend(GpuDevice)}, with kernels from somebody else.
     *
     * @param kernel that the device has as the file {@link KernelSource#USERS}
     */
    public GpuBackend(GpuDevice device, Optional<UserKernel> kernel) {
        this.name = device.info().backend();
        this.device = device;
        this.replaced = kernel.map(KernelSource::entries).orElse(Set.of());
        try {
            if (kernel.isPresent()) {
                device.load(KernelSource.USERS);
            }
            fault = View.of(allocate(Integer.BYTES), DType.I32, 1, 1);
            clearFault();
        } catch (RuntimeException e) {
            device.close();
            throw e;
        }
    }

    String name() {
        return name;
    }

    @Override
    public DeviceInfo info() {
        return device.info();
    }

    @Override
    public boolean supports(Op op) {
        return LaunchTable.fits(op)
                && (device.hasFp64()
                        || LaunchTable.of(op, new Unplaced(), 0).stream().noneMatch(Launch::fp64));
    }

    /** Memory that need not exist, for asking what an op is made of. */
    static final class Unplaced implements LaunchTable.Memory, Buffer {
        /** Not 0, which is no matrix, and aligned as allocations are, which kernels are chosen by. */
        @Override
        public long handle(View view) {
            return 256;
        }

        @Override
        public View scratch(DType dtype, long rows, long cols) {
            return View.of(this, dtype, rows, cols);
        }

        @Override
        public View fault() {
            return scratch(DType.I32, 1, 1);
        }

        @Override
        public long bytes() {
            return Long.MAX_VALUE;
        }

        @Override
        public void close() {}
    }

    @Override
    public Buffer allocate(long bytes) {
        check("allocating");
        if (bytes < 0) {
            throw new IllegalArgumentException("a buffer cannot have " + bytes + " bytes");
        }
        return reserve(bytes, () -> scratch.release() || giveWay());
    }

    /** @param freed frees something that gives way; false when there is nothing */
    private Buffer reserve(long bytes, BooleanSupplier freed) {
        while (true) {
            try {
                return new GpuBuffer(this, device.allocate(Math.max(1, bytes)), bytes, null);
            } catch (DeviceException full) {
                if (full.kind() != DeviceException.Kind.OUT_OF_MEMORY || !freed.getAsBoolean()) {
                    throw full;
                }
            }
        }
    }

    /** Frees what was to be uploaded first; false when there is nothing. */
    private boolean giveWay() {
        Ahead oldest = aheads.poll();
        if (oldest == null) {
            return false;
        }
        LOG.debug("{}: an upload of {} bytes gives way to other memory", name, oldest.source.byteSize());
        oldest.drop();
        return true;
    }

    void free(long handle, GpuDevice.Transfer transfer) {
        // Scopes close after a failure too, and may do so when the backend, and all memory with it, is gone.
        if (!closed) {
            check("freeing");
            try {
                if (transfer != null) {
                    transfer.await();
                }
            } finally {
                device.free(handle);
            }
        }
    }

    @Override
    public boolean copiesBeside() {
        return true;
    }

    @Override
    public MemorySegment allocateHost(long bytes, Arena arena) {
        check("allocating host memory");
        return device.allocateHost(bytes, arena);
    }

    @Override
    public Upload upload(MemorySegment source) {
        check("uploading");
        if (!source.isNative() || !source.isAccessibleBy(elsewhere) || source.byteSize() == 0) {
            return late(source);
        }
        long handle = 0;
        try {
            handle = device.allocate(source.byteSize());
            Ahead ahead = new Ahead(source, handle, device.upload(source, handle));
            aheads.add(ahead);
            return ahead;
        } catch (DeviceException failure) {
            if (handle != 0) {
                device.free(handle);
            }
            if (failure.kind() != DeviceException.Kind.OUT_OF_MEMORY) {
                throw failure;
            }
            return late(source);
        }
    }

    private Upload late(MemorySegment source) {
        return Backend.super.upload(source);
    }

    /** What is under way to the device. */
    private final class Ahead implements Upload {
        private final MemorySegment source;
        private final long handle;
        private final GpuDevice.Transfer transfer;
        /** Takes this one's place when it has given way. */
        private Upload instead;

        private boolean ended;

        Ahead(MemorySegment source, long handle, GpuDevice.Transfer transfer) {
            this.source = source;
            this.handle = handle;
            this.transfer = transfer;
        }

        @Override
        public boolean isUnderway() {
            return !ended && instead == null;
        }

        @Override
        public Buffer take() {
            check("taking an upload");
            if (instead != null) {
                return instead.take();
            }
            if (ended) {
                throw new IllegalStateException("the upload has been taken or closed already");
            }
            end();
            GpuBuffer buffer = new GpuBuffer(GpuBackend.this, handle, source.byteSize(), transfer);
            try {
                transfer.order();
                return buffer;
            } catch (RuntimeException e) {
                buffer.close();
                throw e;
            }
        }

        private void end() {
            ended = true;
            aheads.remove(this);
        }

        /** Gives the memory back. */
        void drop() {
            end();
            instead = late(source);
            try {
                transfer.cancel();
                transfer.order();
                transfer.await();
            } finally {
                device.free(handle);
            }
        }

        @Override
        public void close() {
            if (instead != null) {
                instead.close();
            } else if (!ended && !closed) {
                check("closing an upload");
                drop();
                instead.close();
            }
        }
    }

    @Override
    public Download download(View source, MemorySegment target) {
        check("downloading");
        if (!suspects.isEmpty() || !target.isNative() || source.bytes() == 0) {
            copyOut(source, target);
            return Download.DONE;
        }
        return device.download(region(target, source), target);
    }

    @Override
    public void copyIn(MemorySegment source, View target) {
        check("copying in");
        GpuDevice.Region region = region(source, target);
        if (target.bytes() == 0) {
            return;
        }
        if (source.isNative()) {
            device.copyIn(source, region);
            return;
        }
        try (Arena arena = Arena.ofConfined()) {
            device.copyIn(arena.allocate(target.bytes(), ALIGNMENT).copyFrom(source), region);
        }
    }

    @Override
    public void copyOut(View source, MemorySegment target) {
        check("copying out");
        GpuDevice.Region region = region(target, source);
        checkFault();
        if (source.bytes() == 0) {
            return;
        }
        if (target.isNative()) {
            device.copyOut(region, target);
            return;
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment packed = arena.allocate(source.bytes(), ALIGNMENT);
            device.copyOut(region, packed);
            target.copyFrom(packed);
        }
    }

    private GpuDevice.Region region(MemorySegment host, View view) {
        long handle = GpuBuffer.handle(this, view);
        if (host.byteSize() != view.bytes()) {
            throw new DeviceException(
                    name,
                    "copying " + view,
                    0,
                    "the host side has " + host.byteSize() + " bytes instead of " + view.bytes(),
                    DeviceException.Kind.INTERNAL);
        }
        long element = view.dtype().bytes();
        return new GpuDevice.Region(handle, view.offset(), view.rows(), view.cols() * element, view.stride() * element);
    }

    @Override
    public void run(Op op) {
        check("running " + op.name());
        scratch.restart();
        int number = nextNumber();
        launches(op, scratch, number).forEach(device::launch);
        suspect(op, number);
        scratch.giveBack();
    }

    private List<Launch> launches(Op op, LaunchTable.Memory memory, int number) {
        if (!supports(op)) {
            throw new DeviceException(
                    name,
                    "running " + op.name(),
                    0,
                    LaunchTable.fits(op)
                            ? "the device " + device.info().device() + " has no fp64, which this op needs; use"
                                    + " another device or backend"
                            : "a matrix has too many rows or columns; split it",
                    DeviceException.Kind.UNSUPPORTED);
        }
        List<Launch> launches = LaunchTable.of(op, memory, number);
        return replaced.isEmpty()
                ? launches
                : launches.stream()
                        .map(launch -> replaced.contains(launch.entry()) ? launch.from(KernelSource.USERS) : launch)
                        .toList();
    }

    private int nextNumber() {
        lastNumber = lastNumber == Integer.MAX_VALUE ? 1 : lastNumber + 1;
        return lastNumber;
    }

    private void suspect(Op op, int number) {
        if (LaunchTable.canFail(op)) {
            suspects.put(number, op);
        }
    }

    @Override
    public void sync() {
        check("waiting");
        checkFault();
        device.sync();
    }

    /** Fails when a kernel has met what it must not since this was called last. */
    private void checkFault() {
        if (suspects.isEmpty()) {
            return;
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment raised = arena.allocate(ValueLayout.JAVA_INT);
            device.copyOut(region(raised, fault), raised);
            Op culprit = suspects.get(raised.get(ValueLayout.JAVA_INT, 0));
            suspects.clear();
            if (culprit != null) {
                clearFault();
                throw LaunchTable.failure(culprit, name);
            }
        }
    }

    private void clearFault() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment zero = arena.allocate(ValueLayout.JAVA_INT);
            device.copyIn(zero, region(zero, fault));
        }
    }

    @Override
    public Sequence prepare(List<Op> ops) {
        check("preparing a sequence");
        Prepared prepared = new Prepared(List.copyOf(ops));
        try {
            prepared.make();
        } catch (RuntimeException e) {
            prepared.memory.free();
            throw e;
        }
        return prepared;
    }

    @Override
    public void run(Sequence sequence, int times) {
        check("running a sequence");
        if (!(sequence instanceof Prepared prepared) || prepared.backend() != this || prepared.work == null) {
            throw new DeviceException(
                    name,
                    "running a sequence",
                    0,
                    "it was not prepared here, or is closed already",
                    DeviceException.Kind.INTERNAL);
        }
        for (int i = 0; i < times; i++) {
            prepared.work.run();
        }
        if (times > 0) {
            prepared.numbers.forEach((number, op) -> suspect(op, number));
        }
    }

    @Override
    public Optional<Ceilings> ceilings() {
        check("measuring ceilings");
        return Optional.of(Probe.measure(this, device));
    }

    @Override
    public void close() {
        if (!closed) {
            check("closing");
            try {
                List.copyOf(aheads).forEach(Ahead::close);
            } finally {
                closed = true;
                device.close();
            }
        }
    }

    /** Fails when another thread calls, or after closing. */
    private void check(String call) {
        if (!Thread.currentThread().equals(owner)) {
            throw new WrongThreadException(
                    name + ": " + call + ": the backend belongs to " + owner + ", not to " + Thread.currentThread());
        }
        if (closed) {
            throw new DeviceException(name, call, 0, "the backend is closed already", DeviceException.Kind.INTERNAL);
        }
    }

    /** Launches with memory of their own, so that they stay ready whatever runs in between. */
    private final class Prepared implements Sequence {
        private final List<Op> ops;
        private final Scratch memory = new Scratch();
        private final Map<Integer, Op> numbers = new HashMap<>();
        private GpuDevice.Prepared work;

        Prepared(List<Op> ops) {
            this.ops = ops;
        }

        void make() {
            List<Launch> launches = new ArrayList<>();
            for (Op op : ops) {
                int number = nextNumber();
                numbers.put(number, op);
                memory.rewind();
                launches.addAll(launches(op, memory, number));
            }
            work = device.prepare(List.copyOf(launches));
        }

        GpuBackend backend() {
            return GpuBackend.this;
        }

        @Override
        public List<Op> ops() {
            return ops;
        }

        @Override
        public void close() {
            if (work != null) {
                if (!closed) {
                    work.close();
                }
                work = null;
                memory.free();
            }
        }
    }

    /** Memory that is handed out piece by piece, and again after a restart: launches run one after the other. */
    private final class Scratch implements LaunchTable.Memory {
        private final List<Buffer> blocks = new ArrayList<>();
        /** The block that is handed out, what of it is, and those before it. */
        private int current;

        private long used;

        @Override
        public long handle(View view) {
            return GpuBuffer.handle(GpuBackend.this, view);
        }

        @Override
        public View fault() {
            return fault;
        }

        @Override
        public View scratch(DType dtype, long rows, long cols) {
            long bytes = Math.ceilDiv(dtype.bytesFor(Math.multiplyExact(rows, cols)), ALIGNMENT) * ALIGNMENT;
            while (current < blocks.size() && used + bytes > blocks.get(current).bytes()) {
                current++;
                used = 0;
            }
            if (current == blocks.size()) {
                blocks.add(reserve(bytes, GpuBackend.this::giveWay));
            }
            View view = new View(blocks.get(current), used, rows, cols, cols, dtype);
            used += bytes;
            return view;
        }

        /** Everything handed out before may be handed out again, and stays what it was for those who have it. */
        void rewind() {
            current = 0;
            used = 0;
        }

        /** Everything handed out before may be handed out again; what grew piece by piece becomes one block. */
        void restart() {
            giveBack();
            if (blocks.size() > 1) {
                long total = bytes();
                free();
                blocks.add(reserve(total, GpuBackend.this::giveWay));
            }
            rewind();
        }

        /** Frees what is kept for the next op; whether there was any. */
        boolean release() {
            boolean any = !blocks.isEmpty();
            free();
            rewind();
            return any;
        }

        /** Frees what is too much to keep; launches on it that still run find it. */
        void giveBack() {
            if (bytes() > KEPT_BYTES) {
                free();
            }
        }

        private long bytes() {
            return blocks.stream().mapToLong(Buffer::bytes).sum();
        }

        void free() {
            blocks.forEach(Buffer::close);
            blocks.clear();
        }
    }
}

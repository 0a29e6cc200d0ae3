package org.sentei.backend.opencl;

import static org.lwjgl.opencl.CL10.CL_FALSE;
import static org.lwjgl.opencl.CL10.CL_MEM_READ_WRITE;
import static org.lwjgl.opencl.CL10.CL_PROGRAM_BUILD_LOG;
import static org.lwjgl.opencl.CL10.CL_SUCCESS;
import static org.lwjgl.opencl.CL10.CL_TRUE;
import static org.lwjgl.opencl.CL10.clFinish;
import static org.lwjgl.opencl.CL10.clFlush;
import static org.lwjgl.opencl.CL10.clReleaseCommandQueue;
import static org.lwjgl.opencl.CL10.clReleaseContext;
import static org.lwjgl.opencl.CL10.clReleaseEvent;
import static org.lwjgl.opencl.CL10.clReleaseKernel;
import static org.lwjgl.opencl.CL10.clReleaseMemObject;
import static org.lwjgl.opencl.CL10.clReleaseProgram;
import static org.lwjgl.opencl.CL10.nclBuildProgram;
import static org.lwjgl.opencl.CL10.nclCreateBuffer;
import static org.lwjgl.opencl.CL10.nclCreateCommandQueue;
import static org.lwjgl.opencl.CL10.nclCreateContext;
import static org.lwjgl.opencl.CL10.nclCreateKernel;
import static org.lwjgl.opencl.CL10.nclCreateProgramWithSource;
import static org.lwjgl.opencl.CL10.nclEnqueueNDRangeKernel;
import static org.lwjgl.opencl.CL10.nclEnqueueReadBuffer;
import static org.lwjgl.opencl.CL10.nclEnqueueWriteBuffer;
import static org.lwjgl.opencl.CL10.nclGetProgramBuildInfo;
import static org.lwjgl.opencl.CL10.nclSetKernelArg;
import static org.lwjgl.opencl.CL10.nclWaitForEvents;
import static org.lwjgl.opencl.CL11.nclEnqueueReadBufferRect;
import static org.lwjgl.opencl.CL11.nclEnqueueWriteBufferRect;
import static org.lwjgl.opencl.CL12.nclEnqueueBarrierWithWaitList;
import static org.lwjgl.opencl.CL12.nclEnqueueMarkerWithWaitList;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.UnaryOperator;
import org.lwjgl.opencl.CL10;
import org.sentei.backend.gpu.GpuDevice;
import org.sentei.backend.gpu.KernelSource;
import org.sentei.backend.gpu.Launch;
import org.sentei.backend.gpu.Launch.Argument;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.DeviceInfo;
import org.sentei.kernel.Download;
import org.sentei.kernel.MemoryBudget;

/**
 * An OpenCL device with a context and three queues, each of which runs commands in their order: one for kernels and copies
 * that wait for them, two for what is copied beside the kernels, one a direction. Events keep them in order.
 *
 * <p>Each kernel file is a program of its own, built when it is needed first: a run uses a few of them.
 */
final class OpenClDevice implements GpuDevice {
    private static final String OPTIONS = "-cl-std=CL1.2";

    private final DeviceInfo info;
    private final OpenClLibrary.Found found;
    private final UnaryOperator<String> sources;
    /** For what is passed by address: a kernel argument, an error code, sizes of a copy. */
    private final Arena arena = Arena.ofConfined();

    private final MemorySegment argument = arena.allocate(ValueLayout.JAVA_LONG);
    private final MemorySegment code = arena.allocate(ValueLayout.JAVA_INT);
    private final MemorySegment event = arena.allocate(ValueLayout.JAVA_LONG);
    private final MemorySegment waits = arena.allocate(ValueLayout.JAVA_LONG, 2);
    private final MemorySegment sizes = arena.allocate(ValueLayout.JAVA_LONG, 2);
    private final MemorySegment bufferOrigin = arena.allocate(ValueLayout.JAVA_LONG, 3);
    private final MemorySegment hostOrigin = arena.allocate(ValueLayout.JAVA_LONG, 3);
    private final MemorySegment extent = arena.allocate(ValueLayout.JAVA_LONG, 3);

    private final Map<String, Long> programs = new HashMap<>();
    private final Map<String, Long> kernels = new HashMap<>();
    /** Bytes by buffer. */
    private final Map<Long, Long> buffers = new HashMap<>();
    /** Downloads that may not have arrived, by the memory that they read: nothing may write there before. */
    private final Map<Long, Beside> downloads = new HashMap<>();

    private final MemoryBudget budget;
    private final long context;
    private final long queue;
    private final long uploads;
    private final long downloading;

    OpenClDevice(OpenClLibrary.Found found) {
        this(found, KernelSource::of, MemoryBudget.UNLIMITED);
    }

    /** A device whose kernel files have these sources, and whose buffers may take so many bytes at once. */
    OpenClDevice(OpenClLibrary.Found found, UnaryOperator<String> sources, long memoryBytes) {
        this.budget = new MemoryBudget(OpenClProvider.NAME, memoryBytes);
        this.found = found;
        this.sources = sources;
        this.info = new DeviceInfo(
                OpenClProvider.NAME,
                found.name(),
                found.version() + ", driver " + found.driver(),
                found.memoryBytes(),
                "");
        MemorySegment device = arena.allocateFrom(ValueLayout.JAVA_LONG, found.id());
        long created = 0;
        List<Long> queues = new ArrayList<>();
        try {
            created = nclCreateContext(0, 1, device.address(), 0, 0, code.address());
            checkCode("clCreateContext");
            while (queues.size() < 3) {
                queues.add(nclCreateCommandQueue(created, found.id(), 0, code.address()));
                checkCode("clCreateCommandQueue");
            }
        } catch (RuntimeException e) {
            queues.stream().filter(each -> each != 0).forEach(CL10::clReleaseCommandQueue);
            if (created != 0) {
                clReleaseContext(created);
            }
            arena.close();
            throw e;
        }
        context = created;
        queue = queues.get(0);
        uploads = queues.get(1);
        downloading = queues.get(2);
    }

    private void checkCode(String call) {
        OpenClException.check(call, code.get(ValueLayout.JAVA_INT, 0));
    }

    @Override
    public DeviceInfo info() {
        return info;
    }

    @Override
    public boolean hasFp64() {
        return found.fp64();
    }

    @Override
    public long allocate(long bytes) {
        budget.take(bytes);
        try {
            long buffer = nclCreateBuffer(context, CL_MEM_READ_WRITE, bytes, 0, code.address());
            checkCode("clCreateBuffer of " + bytes + " bytes");
            buffers.put(buffer, bytes);
            return buffer;
        } catch (RuntimeException e) {
            budget.give(bytes);
            throw e;
        }
    }

    @Override
    public void free(long handle) {
        budget.give(buffers.remove(handle));
        downloads.remove(handle);
        OpenClException.check("clReleaseMemObject", clReleaseMemObject(handle));
    }

    /** Done when all that a queue has been given so far is. */
    private long marker(long after) {
        OpenClException.check(
                "clEnqueueMarkerWithWaitList", nclEnqueueMarkerWithWaitList(after, 0, 0, event.address()));
        OpenClException.check("clFlush", clFlush(after));
        return event.get(ValueLayout.JAVA_LONG, 0);
    }

    @Override
    public Transfer upload(MemorySegment source, long handle) {
        long launched = marker(queue);
        long read = marker(downloading);
        waits.setAtIndex(ValueLayout.JAVA_LONG, 0, launched);
        waits.setAtIndex(ValueLayout.JAVA_LONG, 1, read);
        try {
            OpenClException.check(
                    "clEnqueueWriteBuffer",
                    nclEnqueueWriteBuffer(
                            uploads,
                            handle,
                            CL_FALSE,
                            0,
                            source.byteSize(),
                            source.address(),
                            2,
                            waits.address(),
                            event.address()));
        } finally {
            clReleaseEvent(launched);
            clReleaseEvent(read);
        }
        Beside copy = new Beside(event.get(ValueLayout.JAVA_LONG, 0));
        OpenClException.check("clFlush", clFlush(uploads));
        return copy;
    }

    @Override
    public Download download(Region source, MemorySegment target) {
        if (!source.isPacked()) {
            copyOut(source, target);
            return Download.DONE;
        }
        long launched = marker(queue);
        waits.setAtIndex(ValueLayout.JAVA_LONG, 0, launched);
        try {
            OpenClException.check(
                    "clEnqueueReadBuffer",
                    nclEnqueueReadBuffer(
                            downloading,
                            source.handle(),
                            CL_FALSE,
                            source.offset(),
                            target.byteSize(),
                            target.address(),
                            1,
                            waits.address(),
                            event.address()));
        } finally {
            clReleaseEvent(launched);
        }
        Beside copy = new Beside(event.get(ValueLayout.JAVA_LONG, 0));
        downloads.put(source.handle(), copy);
        OpenClException.check("clFlush", clFlush(downloading));
        return () -> {
            downloads.remove(source.handle(), copy);
            copy.await();
        };
    }

    /** A copy that runs beside the kernels. */
    private final class Beside implements Transfer {
        private final long done;
        private boolean over;

        Beside(long done) {
            this.done = done;
        }

        @Override
        public void order() {
            if (!over) {
                waits.setAtIndex(ValueLayout.JAVA_LONG, 0, done);
                OpenClException.check(
                        "clEnqueueBarrierWithWaitList", nclEnqueueBarrierWithWaitList(queue, 1, waits.address(), 0));
            }
        }

        @Override
        public void await() {
            if (!over) {
                waits.setAtIndex(ValueLayout.JAVA_LONG, 0, done);
                OpenClException.check("clWaitForEvents", nclWaitForEvents(1, waits.address()));
                over = true;
                clReleaseEvent(done);
            }
        }

        @Override
        public void cancel() {}
    }

    /** What the queue of the kernels gets from here on is behind the download from that memory. */
    private void settle(long handle) {
        Beside arriving = downloads.remove(handle);
        if (arriving != null) {
            arriving.order();
        }
    }

    @Override
    public void copyIn(MemorySegment source, Region target) {
        settle(target.handle());
        if (target.isPacked()) {
            OpenClException.check(
                    "clEnqueueWriteBuffer",
                    nclEnqueueWriteBuffer(
                            queue,
                            target.handle(),
                            CL_TRUE,
                            target.offset(),
                            target.rows() * target.rowBytes(),
                            source.address(),
                            0,
                            0,
                            0));
            return;
        }
        rectangle(target);
        OpenClException.check(
                "clEnqueueWriteBufferRect",
                nclEnqueueWriteBufferRect(
                        queue,
                        target.handle(),
                        CL_TRUE,
                        bufferOrigin.address(),
                        hostOrigin.address(),
                        extent.address(),
                        target.strideBytes(),
                        0,
                        target.rowBytes(),
                        0,
                        source.address(),
                        0,
                        0,
                        0));
    }

    @Override
    public void copyOut(Region source, MemorySegment target) {
        if (source.isPacked()) {
            OpenClException.check(
                    "clEnqueueReadBuffer",
                    nclEnqueueReadBuffer(
                            queue,
                            source.handle(),
                            CL_TRUE,
                            source.offset(),
                            source.rows() * source.rowBytes(),
                            target.address(),
                            0,
                            0,
                            0));
            return;
        }
        rectangle(source);
        OpenClException.check(
                "clEnqueueReadBufferRect",
                nclEnqueueReadBufferRect(
                        queue,
                        source.handle(),
                        CL_TRUE,
                        bufferOrigin.address(),
                        hostOrigin.address(),
                        extent.address(),
                        source.strideBytes(),
                        0,
                        source.rowBytes(),
                        0,
                        target.address(),
                        0,
                        0,
                        0));
    }

    /** Where a region begins and how far it reaches, bytes across and rows down. */
    private void rectangle(Region region) {
        bufferOrigin.setAtIndex(ValueLayout.JAVA_LONG, 0, region.offset() % region.strideBytes());
        bufferOrigin.setAtIndex(ValueLayout.JAVA_LONG, 1, region.offset() / region.strideBytes());
        extent.setAtIndex(ValueLayout.JAVA_LONG, 0, region.rowBytes());
        extent.setAtIndex(ValueLayout.JAVA_LONG, 1, region.rows());
        extent.setAtIndex(ValueLayout.JAVA_LONG, 2, 1);
    }

    @Override
    public void launch(Launch launch) {
        Long kernel = kernels.get(launch.entry());
        if (kernel == null) {
            kernel = kernel(launch);
            kernels.put(launch.entry(), kernel);
        }
        setArguments(kernel, launch);
        enqueue(kernel, launch);
    }

    @Override
    public void load(String file) {
        program(file);
    }

    private long program(String file) {
        Long program = programs.get(file);
        if (program == null) {
            program = build(file);
            programs.put(file, program);
        }
        return program;
    }

    private long kernel(Launch launch) {
        long program = program(launch.file());
        try (Arena name = Arena.ofConfined()) {
            long kernel =
                    nclCreateKernel(program, name.allocateFrom(launch.entry()).address(), code.address());
            checkCode("clCreateKernel of " + launch.entry());
            return kernel;
        }
    }

    private long build(String file) {
        try (Arena text = Arena.ofConfined()) {
            MemorySegment source = text.allocateFrom(sources.apply(file));
            long program = nclCreateProgramWithSource(
                    context,
                    1,
                    text.allocateFrom(ValueLayout.JAVA_LONG, source.address()).address(),
                    0,
                    code.address());
            checkCode("clCreateProgramWithSource of " + file);
            MemorySegment device = text.allocateFrom(ValueLayout.JAVA_LONG, found.id());
            int status = nclBuildProgram(
                    program, 1, device.address(), text.allocateFrom(OPTIONS).address(), 0, 0);
            if (status != CL_SUCCESS) {
                String log = buildLog(program);
                clReleaseProgram(program);
                DeviceException failure = OpenClException.of("clBuildProgram of " + file, status);
                throw new DeviceException(
                        OpenClProvider.NAME,
                        "building the kernels of " + file + " for " + info.device(),
                        "the compiler of " + info.driver() + " says: " + log,
                        failure.kind(),
                        failure);
            }
            return program;
        }
    }

    private String buildLog(long program) {
        try (Arena text = Arena.ofConfined()) {
            if (nclGetProgramBuildInfo(program, found.id(), CL_PROGRAM_BUILD_LOG, 0, 0, sizes.address())
                    != CL_SUCCESS) {
                return "nothing";
            }
            MemorySegment log = text.allocate(Math.max(1, sizes.get(ValueLayout.JAVA_LONG, 0)));
            nclGetProgramBuildInfo(program, found.id(), CL_PROGRAM_BUILD_LOG, log.byteSize(), log.address(), 0);
            return log.getString(0, StandardCharsets.UTF_8).strip();
        }
    }

    private void setArguments(long kernel, Launch launch) {
        int index = 0;
        for (Argument value : launch.arguments()) {
            switch (value) {
                case Argument.Matrix(long handle, long first, long stride) -> {
                    index = setLong(kernel, launch, index, handle);
                    index = setLong(kernel, launch, index, first);
                    index = setLong(kernel, launch, index, stride);
                }
                case Argument.Int32(int number) -> {
                    argument.set(ValueLayout.JAVA_INT, 0, number);
                    index = set(kernel, launch, index, Integer.BYTES);
                }
                case Argument.Int64(long number) -> index = setLong(kernel, launch, index, number);
                case Argument.Fp32(float number) -> {
                    argument.set(ValueLayout.JAVA_FLOAT, 0, number);
                    index = set(kernel, launch, index, Float.BYTES);
                }
                case Argument.Fp64(double number) -> {
                    argument.set(ValueLayout.JAVA_DOUBLE, 0, number);
                    index = set(kernel, launch, index, Double.BYTES);
                }
            }
        }
    }

    /** An integer, or the handle of a buffer, of which 0 is none. */
    private int setLong(long kernel, Launch launch, int index, long value) {
        argument.set(ValueLayout.JAVA_LONG, 0, value);
        return set(kernel, launch, index, Long.BYTES);
    }

    private int set(long kernel, Launch launch, int index, long bytes) {
        int status = nclSetKernelArg(kernel, index, bytes, argument.address());
        if (status != CL_SUCCESS) {
            throw OpenClException.of("clSetKernelArg " + index + " of " + launch.entry(), status);
        }
        return index + 1;
    }

    private void enqueue(long kernel, Launch launch) {
        if (!downloads.isEmpty()) {
            for (Argument value : launch.arguments()) {
                if (value instanceof Argument.Matrix matrix) {
                    settle(matrix.handle());
                }
            }
        }
        sizes.setAtIndex(ValueLayout.JAVA_LONG, 0, (long) launch.groups() * Launch.GROUP);
        sizes.setAtIndex(ValueLayout.JAVA_LONG, 1, Launch.GROUP);
        int status =
                nclEnqueueNDRangeKernel(queue, kernel, 1, 0, sizes.address(), sizes.address() + Long.BYTES, 0, 0, 0);
        if (status != CL_SUCCESS) {
            throw OpenClException.of("clEnqueueNDRangeKernel of " + launch.entry(), status);
        }
    }

    @Override
    public Prepared prepare(List<Launch> launches) {
        KernelList list = new KernelList();
        try {
            for (Launch launch : launches) {
                long kernel = kernel(launch);
                list.ready.add(new Ready(kernel, launch));
                setArguments(kernel, launch);
            }
            return list;
        } catch (RuntimeException e) {
            list.close();
            throw e;
        }
    }

    /** A kernel object that has its arguments. */
    private record Ready(long kernel, Launch launch) {}

    private final class KernelList implements Prepared {
        private final List<Ready> ready = new ArrayList<>();

        @Override
        public void run() {
            ready.forEach(each -> enqueue(each.kernel(), each.launch()));
        }

        @Override
        public void close() {
            ready.forEach(each -> clReleaseKernel(each.kernel()));
            ready.clear();
        }
    }

    @Override
    public void sync() {
        for (long each : new long[] {uploads, downloading, queue}) {
            OpenClException.check("clFinish", clFinish(each));
        }
    }

    /** Releases everything, whatever the driver says about parts of it. */
    @Override
    public void close() {
        for (long each : new long[] {uploads, downloading, queue}) {
            clFinish(each);
        }
        kernels.values().forEach(kernel -> clReleaseKernel(kernel));
        programs.values().forEach(program -> clReleaseProgram(program));
        buffers.keySet().forEach(buffer -> clReleaseMemObject(buffer));
        for (long each : new long[] {uploads, downloading, queue}) {
            clReleaseCommandQueue(each);
        }
        clReleaseContext(context);
        arena.close();
    }
}

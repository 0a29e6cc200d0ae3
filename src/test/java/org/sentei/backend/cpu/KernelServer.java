package org.sentei.backend.cpu;

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.sentei.kernel.HostBuffer;
import org.sentei.kernel.View;
import org.sentei.tensor.DType;

/**
 * Kernels in another process ({@code native/test/kernel_server.c}), as a rule one under an emulator. A call carries all the
 * memory that its pointers lead to there and back, whatever it holds: the backend, the op and the check of its result
 * remain the real ones. For backends of one thread.
 */
final class KernelServer implements Interceptor, AutoCloseable {
    private static final int WORD = Long.BYTES;

    private final Process process;
    private final DataInputStream in;
    private final OutputStream out;
    private final Path log;
    private final String tier;
    private final List<String> kernels = new ArrayList<>();
    private final Map<String, Integer> calls = new TreeMap<>();
    private final List<MemorySegment> memory = new ArrayList<>();

    /**
     * Starts a server.
     *
     * @param command with its arguments
     * @param log takes what it says on standard error
     */
    KernelServer(List<String> command, Path log) throws IOException {
        this.log = log;
        process = new ProcessBuilder(command)
                .redirectError(ProcessBuilder.Redirect.to(log.toFile()))
                .start();
        in = new DataInputStream(new BufferedInputStream(process.getInputStream(), 1 << 16));
        out = new BufferedOutputStream(process.getOutputStream(), 1 << 16);
        tier = line();
        for (String name = line(); !name.isEmpty(); name = line()) {
            kernels.add(name);
            calls.put(name, 0);
        }
    }

    /** The tier that its processor got. */
    String tier() {
        return tier;
    }

    /** How often each kernel that there is has been called. */
    Map<String, Integer> calls() {
        return calls;
    }

    @Override
    public MethodHandle bound(String kernel, String parameters, MethodHandle handle) {
        List<Boolean> pointers = Arrays.stream(parameters.split(","))
                .map(parameter -> parameter.contains("*"))
                .toList();
        Callee callee = arguments -> call(kernel, pointers, arguments);
        try {
            return MethodHandles.lookup()
                    .findVirtual(Callee.class, "call", MethodType.methodType(int.class, Object[].class))
                    .bindTo(callee)
                    .asCollector(Object[].class, pointers.size())
                    .asType(handle.type());
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }

    /** What a handle calls with its arguments in an array. */
    @FunctionalInterface
    interface Callee {
        int call(Object[] arguments);
    }

    @Override
    public void uses(View view) {
        View whole = View.of(view.buffer(), DType.U8, 1, view.buffer().bytes());
        uses(HostBuffer.segment(NativeBackend.NAME, whole));
    }

    @Override
    public void uses(MemorySegment segment) {
        memory.removeIf(known -> !known.scope().isAlive() || known.address() == segment.address());
        memory.add(segment);
    }

    private int call(String kernel, List<Boolean> pointers, Object[] arguments) {
        calls.merge(kernel, 1, Integer::sum);
        try {
            return exchange(kernel, pointers, arguments);
        } catch (IOException e) {
            throw new UncheckedIOException("the server ended inside of " + kernel + "; see " + log, e);
        }
    }

    private int exchange(String kernel, List<Boolean> pointers, Object[] arguments) throws IOException {
        List<MemorySegment> regions = new ArrayList<>();
        byte[] words = new byte[arguments.length * 2 * WORD];
        ByteBuffer sent = ByteBuffer.wrap(words).order(ByteOrder.LITTLE_ENDIAN);
        for (int i = 0; i < arguments.length; i++) {
            if (pointers.get(i)) {
                putPointer(sent, kernel, (long) arguments[i], regions);
            } else {
                sent.putLong(bits(arguments[i])).putLong(0);
            }
        }
        number(kernels.indexOf(kernel));
        number(regions.size());
        for (MemorySegment region : regions) {
            number(region.byteSize());
        }
        number(arguments.length);
        out.write(words);
        for (MemorySegment region : regions) {
            out.write(region.toArray(ValueLayout.JAVA_BYTE));
        }
        out.flush();

        int status = (int) number();
        boolean strayed = number() != 0;
        for (MemorySegment region : regions) {
            byte[] bytes = new byte[(int) region.byteSize()];
            in.readFully(bytes);
            MemorySegment.copy(bytes, 0, region, ValueLayout.JAVA_BYTE, 0, bytes.length);
        }
        if (strayed) {
            throw new IllegalStateException(kernel + " wrote beside the memory it was given");
        }
        return status;
    }

    private void putPointer(ByteBuffer sent, String kernel, long address, List<MemorySegment> regions) {
        if (address == 0) {
            sent.putLong(-1).putLong(0);
            return;
        }
        MemorySegment region = memory.stream()
                .filter(known -> known.scope().isAlive()
                        && known.address() <= address
                        && address - known.address() < Math.max(1, known.byteSize()))
                .findFirst()
                .orElseThrow(() -> new IllegalStateException("the memory that a pointer of " + kernel
                        + " leads to is unknown; NativeBackend must take it from address, segment or scratch"));
        if (!regions.contains(region)) {
            regions.add(region);
        }
        sent.putLong(regions.indexOf(region)).putLong(address - region.address());
    }

    private static long bits(Object scalar) {
        return switch (scalar) {
            case Long number -> number;
            case Integer number -> number;
            case Float number -> Float.floatToRawIntBits(number);
            case Double number -> Double.doubleToRawLongBits(number);
            default -> throw new IllegalArgumentException("a kernel takes no " + scalar.getClass());
        };
    }

    private void number(long value) throws IOException {
        byte[] word = new byte[WORD];
        ByteBuffer.wrap(word).order(ByteOrder.LITTLE_ENDIAN).putLong(value);
        out.write(word);
    }

    private long number() throws IOException {
        byte[] word = new byte[WORD];
        in.readFully(word);
        return ByteBuffer.wrap(word).order(ByteOrder.LITTLE_ENDIAN).getLong();
    }

    private String line() throws IOException {
        StringBuilder line = new StringBuilder();
        for (int c = in.readUnsignedByte(); c != '\n'; c = in.readUnsignedByte()) {
            line.append((char) c);
        }
        return line.toString();
    }

    @Override
    public void close() {
        process.destroy();
    }
}

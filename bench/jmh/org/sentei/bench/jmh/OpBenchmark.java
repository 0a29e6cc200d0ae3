package org.sentei.bench.jmh;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.sentei.bench.Bench;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Op;
import org.sentei.kernel.OpCase;
import org.sentei.kernel.OpCases;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;

/**
 * One op on one backend, as a caller sees it, on operands that lie on the device already. What takes less than a millisecond is
 * given to the backend that long before it is waited for. Every run takes the next of several sets of operands, together larger
 * than a cache, so that none of them is found there.
 */
@State(org.openjdk.jmh.annotations.Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
public class OpBenchmark {
    /** What all sets of operands hold together, at least. */
    private static final long ROTATED_BYTES = 256 << 20;

    private static final long SEED = 1;

    /** Name of the backend. */
    @Param("cpu")
    public String backend;

    /** Index of the device. */
    @Param("0")
    public int device;

    /** Host threads of the backend. */
    @Param("1")
    public int threads;

    /** File with kernels to time in the place of the backend's own; empty without. */
    @Param("")
    public String kernel;

    /** Name of a case of {@link OpCases#benchmarks()} or {@link OpCases#modelShapes()}. */
    @Param("column_moments/32768x4096")
    public String opCase;

    private Backend opened;
    private Scope scope;
    private Op[] ops;
    private int next;
    private int together;
    private int underWay;

    /** Opens the backend and fills the operands. */
    @Setup
    public void setUp() {
        // One list after the other: the second takes a while to make.
        OpCase found = Stream.<Supplier<List<OpCase>>>of(OpCases::modelShapes, OpCases::benchmarks)
                .flatMap(cases -> cases.get().stream())
                .filter(one -> one.name().equals(opCase))
                .findFirst()
                .orElseThrow(() -> new IllegalArgumentException("there is no case " + opCase));
        opened = Bench.open(
                backend,
                new Backend.Options(device, threads),
                Op.stem(found.op()),
                Optional.of(kernel).filter(file -> !file.isEmpty()).map(Path::of));
        scope = new Scope(opened);
        long bytes = found.operands().stream()
                .mapToLong(operand ->
                        operand.rows() * operand.cols() * operand.dtype().bytes())
                .sum();
        ops = new Op[Math.toIntExact(Math.ceilDiv(ROTATED_BYTES, bytes))];
        try (Arena arena = Arena.ofConfined()) {
            List<MemorySegment> contents = new ArrayList<>();
            SplittableRandom random = new SplittableRandom(SEED);
            for (OpCase.Operand operand : found.operands()) {
                MemorySegment packed = arena.allocate(
                        operand.rows() * operand.cols() * operand.dtype().bytes(), 8);
                operand.fill().fill(random.split(), packed, operand.rows(), operand.cols());
                contents.add(packed);
            }
            for (int i = 0; i < ops.length; i++) {
                List<View> views = new ArrayList<>();
                for (int j = 0; j < contents.size(); j++) {
                    OpCase.Operand operand = found.operands().get(j);
                    View view = scope.matrix(operand.dtype(), operand.rows(), operand.cols());
                    opened.copyIn(contents.get(j), view);
                    views.add(view);
                }
                ops[i] = found.build().apply(views);
            }
            opened.sync();
        }
        together = runsAMillisecond();
    }

    /** How many runs take a millisecond: that many are under way on a device before it is waited for. */
    private int runsAMillisecond() {
        long nanos = 1;
        for (int run = 0; run < 2; run++) {
            long start = System.nanoTime();
            opened.run(ops[0]);
            opened.sync();
            nanos = System.nanoTime() - start;
        }
        return Math.toIntExact(Math.clamp(1_000_000 / Math.max(1, nanos), 1, 64));
    }

    /** Runs the op. */
    @Benchmark
    public void run() {
        Op op = ops[next];
        next = next + 1 == ops.length ? 0 : next + 1;
        opened.run(op);
        if (++underWay == together) {
            underWay = 0;
            opened.sync();
        }
    }

    /** Frees the device. */
    @TearDown
    public void tearDown() {
        scope.close();
        opened.close();
    }
}

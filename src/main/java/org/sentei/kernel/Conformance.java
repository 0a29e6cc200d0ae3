package org.sentei.kernel;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;

/**
 * Runs a case of {@link OpCases} on a backend and holds the result against the reference.
 *
 * <p>Around every operand, and in the gaps between its rows, stand guard bytes that must survive; outputs are poisoned
 * with NaN bits first; every case runs twice and must give the same bits.
 */
public final class Conformance {
    private static final int GUARD_BYTES = 192;
    /**
     * What lies around a matrix and between its rows: NaN, in every other place where elements have 16 bits. Around what is
     * written it begins otherwise, so that it cannot come from an input.
     */
    private static final byte[] GUARD = {(byte) 0xA5, (byte) 0xA5, (byte) 0xC0, 0x7F};

    private static final byte GUARD_OF_OUTPUTS = 0x5A;
    private static final byte POISON = (byte) 0xFF;
    private static final double UNIT_ROUNDOFF = 0x1p-24;
    /** Bytes and operations from which on the reference computes a sample: a moment of its time. */
    private static final long LARGE = 1L << 26;

    private final Backend candidate;
    private final Backend reference;

    /** Holds a backend against another; both belong to the calling thread. */
    public Conformance(Backend candidate, Backend reference) {
        this.candidate = candidate;
        this.reference = reference;
    }

    /**
     * What came of one case.
     *
     * @param worstError largest error in units of what the tolerance allows, 0 for exact agreement
     * @param failure what went wrong and where, empty when the case passed
     */
    public record Result(OpCase opCase, double worstError, Optional<String> failure) {}

    /** Runs one case with operands drawn from {@code seed}. */
    public Result check(OpCase opCase, long seed) {
        return check(opCase, seed, Conformance::run, true);
    }

    /**
     * As {@link #check}, but once and without guards: for cases so large that looking at every byte around them takes
     * longer than running them.
     */
    public Result checkValues(OpCase opCase, long seed) {
        return check(opCase, seed, Conformance::runPacked, false);
    }

    /**
     * As {@link #checkValues}, but where the case is large only at 64 rows, columns or, of an attention, in one head: for cases
     * that the reference would compute for minutes.
     */
    public Result checkSample(OpCase opCase, long seed) {
        Op op = OpCases.unbacked(opCase);
        if (op.bytes() + op.operations() < LARGE) {
            return checkValues(opCase, seed);
        }
        try (Arena arena = Arena.ofConfined()) {
            Sample sample = Sample.of(opCase, new SplittableRandom(seed));
            List<MemorySegment> inputs = inputs(opCase, seed, arena);
            List<MemorySegment> outputs = runPacked(candidate, opCase, inputs, arena);
            List<MemorySegment> partOfInputs = new ArrayList<>();
            for (int i = 0; i < inputs.size(); i++) {
                partOfInputs.add(sample.picks().get(i).of(opCase.operands().get(i), inputs.get(i), arena));
            }
            List<MemorySegment> expected = runPacked(reference, sample.part(), partOfInputs, arena);
            double worst = 0;
            for (int i = 0; i < inputs.size(); i++) {
                OpCase.Operand operand = opCase.operands().get(i);
                if (operand.role() != OpCase.Role.READ) {
                    MemorySegment actual = sample.picks().get(i).of(operand, outputs.get(i), arena);
                    OpCase.Operand part = sample.part().operands().get(i);
                    worst = Math.max(worst, compare(opCase.tolerance(), part, expected.get(i), actual));
                }
            }
            return new Result(opCase, worst, Optional.empty());
        } catch (Mismatch | DeviceException e) {
            return failed(opCase, seed, e);
        }
    }

    private Result failed(OpCase opCase, long seed, RuntimeException e) {
        String line =
                opCase.name() + " with seed " + seed + " on " + candidate.info().backend() + ": " + e.getMessage();
        return new Result(opCase, Double.POSITIVE_INFINITY, Optional.of(line));
    }

    /** The packed content of every operand after the op has run. */
    @FunctionalInterface
    private interface Run {
        List<MemorySegment> run(Backend backend, OpCase opCase, List<MemorySegment> inputs, Arena arena);
    }

    private Result check(OpCase opCase, long seed, Run run, boolean twice) {
        try (Arena arena = Arena.ofConfined()) {
            List<MemorySegment> inputs = inputs(opCase, seed, arena);
            List<MemorySegment> expected = run.run(reference, opCase, inputs, arena);
            List<MemorySegment> actual = run.run(candidate, opCase, inputs, arena);
            List<MemorySegment> again = twice ? run.run(candidate, opCase, inputs, arena) : actual;
            double worst = 0;
            for (int i = 0; i < inputs.size(); i++) {
                OpCase.Operand operand = opCase.operands().get(i);
                if (operand.role() == OpCase.Role.READ) {
                    continue;
                }
                if (differ(opCase.tolerance(), operand, actual.get(i), again.get(i))) {
                    throw new Mismatch(operand.name() + " differs between two runs");
                }
                worst = Math.max(worst, compare(opCase.tolerance(), operand, expected.get(i), actual.get(i)));
            }
            return new Result(opCase, worst, Optional.empty());
        } catch (Mismatch | DeviceException e) {
            return failed(opCase, seed, e);
        }
    }

    private static List<MemorySegment> inputs(OpCase opCase, long seed, Arena arena) {
        List<MemorySegment> inputs = new ArrayList<>();
        SplittableRandom random = new SplittableRandom(seed);
        for (OpCase.Operand operand : opCase.operands()) {
            MemorySegment packed = arena.allocate(
                    operand.rows() * operand.cols() * operand.dtype().bytes(), 8);
            if (operand.role() == OpCase.Role.WRITE) {
                packed.fill(POISON);
            } else {
                operand.fill().fill(random.split(), packed, operand.rows(), operand.cols());
            }
            inputs.add(packed);
        }
        return inputs;
    }

    private static List<MemorySegment> runPacked(
            Backend backend, OpCase opCase, List<MemorySegment> inputs, Arena arena) {
        try (Scope scope = new Scope(backend)) {
            List<View> views = new ArrayList<>();
            for (int i = 0; i < inputs.size(); i++) {
                OpCase.Operand operand = opCase.operands().get(i);
                View view = scope.matrix(operand.dtype(), operand.rows(), operand.cols());
                backend.copyIn(inputs.get(i), view);
                views.add(view);
            }
            backend.run(opCase.build().apply(views));
            backend.sync();
            List<MemorySegment> outputs = new ArrayList<>();
            for (int i = 0; i < inputs.size(); i++) {
                boolean read = opCase.operands().get(i).role() == OpCase.Role.READ;
                MemorySegment output =
                        read ? inputs.get(i) : arena.allocate(inputs.get(i).byteSize(), 8);
                if (!read) {
                    backend.copyOut(views.get(i), output);
                }
                outputs.add(output);
            }
            return outputs;
        }
    }

    private static List<MemorySegment> run(Backend backend, OpCase opCase, List<MemorySegment> inputs, Arena arena) {
        try (Scope scope = new Scope(backend)) {
            List<View> views = new ArrayList<>();
            for (int i = 0; i < inputs.size(); i++) {
                views.add(guarded(scope, opCase.operands().get(i), inputs.get(i)));
            }
            backend.run(opCase.build().apply(views));
            backend.sync();
            List<MemorySegment> outputs = new ArrayList<>();
            for (int i = 0; i < inputs.size(); i++) {
                OpCase.Operand operand = opCase.operands().get(i);
                MemorySegment output = arena.allocate(inputs.get(i).byteSize(), 8);
                backend.copyOut(views.get(i), output);
                checkGuards(backend, views.get(i), operand);
                if (operand.role() == OpCase.Role.READ && output.mismatch(inputs.get(i)) >= 0) {
                    throw new Mismatch("the input " + operand.name() + " was changed");
                }
                outputs.add(output);
            }
            return outputs;
        }
    }

    private static View guarded(Scope scope, OpCase.Operand operand, MemorySegment packed) {
        long stride = operand.cols() + operand.gap();
        long span = operand.rows() * stride * operand.dtype().bytes();
        View whole = scope.matrix(DType.U8, 1, span + 2 * GUARD_BYTES);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment bytes = arena.allocate(whole.bytes());
            for (long i = 0; i < bytes.byteSize(); i++) {
                bytes.set(ValueLayout.JAVA_BYTE, i, guard(operand, i));
            }
            scope.backend().copyIn(bytes, whole);
            scope.backend().sync();
        }
        View view = new View(whole.buffer(), GUARD_BYTES, operand.rows(), operand.cols(), stride, operand.dtype());
        scope.backend().copyIn(packed, view);
        return view;
    }

    private static byte guard(OpCase.Operand operand, long position) {
        int place = (int) (position % GUARD.length);
        return place == 0 && operand.role() != OpCase.Role.READ ? GUARD_OF_OUTPUTS : GUARD[place];
    }

    private static void checkGuards(Backend backend, View view, OpCase.Operand operand) {
        try (Arena arena = Arena.ofConfined()) {
            View whole = View.of(view.buffer(), DType.U8, 1, view.buffer().bytes());
            MemorySegment bytes = arena.allocate(whole.bytes());
            backend.copyOut(whole, bytes);
            long rowBytes = view.cols() * view.dtype().bytes();
            long strideBytes = view.stride() * view.dtype().bytes();
            for (long i = 0; i < bytes.byteSize(); i++) {
                long position = i - view.offset();
                boolean inside = position >= 0
                        && strideBytes > 0
                        && position / strideBytes < view.rows()
                        && position % strideBytes < rowBytes;
                if (!inside && bytes.get(ValueLayout.JAVA_BYTE, i) != guard(operand, i)) {
                    throw new Mismatch("a byte outside of " + operand.name() + " was written, " + position
                            + " bytes from its start");
                }
            }
        }
    }

    /**
     * Whether two runs differ in a bit. Where sums are rounded NaN is one value: which of two NaN a sum keeps is the compiler's choice,
     * and a method of Java may choose otherwise once it is compiled.
     */
    private static boolean differ(Tolerance tolerance, OpCase.Operand operand, MemorySegment one, MemorySegment other) {
        long found = one.mismatch(other);
        if (found < 0
                || tolerance instanceof Tolerance.Exact
                || !operand.dtype().isFloating()) {
            return found >= 0;
        }
        int bytes = operand.dtype().bytes();
        for (long from = found / bytes * bytes; from < one.byteSize(); from += bytes) {
            boolean same = MemorySegment.mismatch(one, from, from + bytes, other, from, from + bytes) < 0;
            long index = from / bytes;
            if (!same
                    && !(Double.isNaN(Floats.get(operand.dtype(), one, index))
                            && Double.isNaN(Floats.get(operand.dtype(), other, index)))) {
                return true;
            }
        }
        return false;
    }

    /** The largest error in units of the tolerance. */
    private static double compare(
            Tolerance tolerance, OpCase.Operand operand, MemorySegment expected, MemorySegment actual) {
        if (!operand.dtype().isFloating() || tolerance instanceof Tolerance.Exact) {
            long mismatch = expected.mismatch(actual);
            if (mismatch >= 0) {
                long index = mismatch / operand.dtype().bytes();
                throw new Mismatch(at(operand, index) + " differs from the reference in byte "
                        + mismatch % operand.dtype().bytes());
            }
            return 0;
        }
        Tolerance.Rounding rounding = (Tolerance.Rounding) tolerance;
        double worst = 0;
        for (long row = 0; row < operand.rows(); row++) {
            double scale = rounding.leastScale();
            for (long col = 0; col < operand.cols(); col++) {
                double value = Math.abs(Floats.get(operand.dtype(), expected, row * operand.cols() + col));
                scale = Double.isFinite(value) ? Math.max(scale, value) : scale;
            }
            double allowed = rounding.terms() * UNIT_ROUNDOFF * scale;
            for (long col = 0; col < operand.cols(); col++) {
                long index = row * operand.cols() + col;
                double wanted = Floats.get(operand.dtype(), expected, index);
                double got = Floats.get(operand.dtype(), actual, index);
                if (Double.compare(wanted, got) == 0) {
                    continue;
                }
                double error = Math.abs(wanted - got) / allowed;
                if (!(error <= 1)) {
                    throw new Mismatch(at(operand, index) + " is " + got + " instead of " + wanted + ", " + error
                            + " times the allowed error");
                }
                worst = Math.max(worst, error);
            }
        }
        return worst;
    }

    private static String at(OpCase.Operand operand, long index) {
        return operand.name() + "[" + index / operand.cols() + ", " + index % operand.cols() + "]";
    }

    private static final class Mismatch extends RuntimeException {
        private static final long serialVersionUID = 1L;

        Mismatch(String message) {
            super(message);
        }
    }
}

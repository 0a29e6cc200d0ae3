package org.sentei.kernel;

import static org.assertj.core.api.Assertions.assertThat;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.tensor.DType;

/** The conformance check itself: a backend that is wrong in one way must not pass. */
class ConformanceCatchesTest {
    /** Ways to be wrong, and what the check must say about them. */
    enum Fault {
        NONE(""),
        A_VALUE_IS_OFF("times the allowed error"),
        A_VALUE_IS_NAN("NaN"),
        THE_INPUT_CHANGES("input"),
        THE_GAP_IS_WRITTEN("outside"),
        THE_GUARD_IS_WRITTEN("outside"),
        RUNS_DIFFER("differs between two runs"),
        ONE_NAN_IN_TWO_FORMS("differs between two runs");

        private final String complaint;

        Fault(String complaint) {
            this.complaint = complaint;
        }
    }

    /** Computes like the reference, then does one thing wrong. */
    private static final class FaultyBackend implements Backend {
        private final Backend right = AvailableBackends.open("reference");
        private final Fault fault;
        private int runs;

        FaultyBackend(Fault fault) {
            this.fault = fault;
        }

        @Override
        public void run(Op op) {
            right.run(op);
            runs++;
            View y = op.writes().getLast();
            switch (fault) {
                case NONE -> {}
                case A_VALUE_IS_OFF -> poke(y, 0, 7);
                case A_VALUE_IS_NAN -> poke(y, 0, Float.NaN);
                case THE_INPUT_CHANGES -> poke(op.reads().getFirst(), 0, 7);
                case THE_GAP_IS_WRITTEN -> poke(y, y.cols(), 0);
                case THE_GUARD_IS_WRITTEN -> poke(y, -1, 0);
                case RUNS_DIFFER -> poke(y, 0, runs % 2 == 0 ? 0.5f : Math.nextUp(0.5f));
                case ONE_NAN_IN_TWO_FORMS -> poke(y, 0, Float.intBitsToFloat(runs % 2 == 0 ? 0x7fc00000 : 0xffc00001));
            }
        }

        /** Puts a value some elements behind the first of a view. */
        private void poke(View view, long element, float value) {
            View target = new View(view.buffer(), view.offset() + element * Float.BYTES, 1, 1, 1, DType.F32);
            right.copyIn(MemorySegment.ofArray(new float[] {value}), target);
        }

        @Override
        public DeviceInfo info() {
            return new DeviceInfo("faulty", "none", "none", 0, "");
        }

        @Override
        public boolean supports(Op op) {
            return true;
        }

        @Override
        public Buffer allocate(long bytes) {
            return right.allocate(bytes);
        }

        @Override
        public void copyIn(MemorySegment source, View target) {
            right.copyIn(source, target);
        }

        @Override
        public void copyOut(View source, MemorySegment target) {
            right.copyOut(source, target);
        }

        @Override
        public void sync() {
            right.sync();
        }

        @Override
        public Sequence prepare(List<Op> ops) {
            return right.prepare(ops);
        }

        @Override
        public void run(Sequence sequence, int times) {
            right.run(sequence, times);
        }

        @Override
        public void close() {
            right.close();
        }
    }

    @ParameterizedTest
    @ValueSource(floats = {Float.NaN, 0.5f})
    void aNanIsOneValueWhereSumsAreRounded(float first) {
        OpCase.Fill values =
                (random, packed, rows, cols) -> packed.copyFrom(MemorySegment.ofArray(new float[] {first, 3}));
        try (Backend faulty = new FaultyBackend(Fault.ONE_NAN_IN_TWO_FORMS);
                Backend reference = AvailableBackends.open("reference")) {
            for (Tolerance tolerance : List.of(new Tolerance.Rounding(4), new Tolerance.Exact())) {
                OpCase opCase = new OpCase(
                        Activate.class,
                        "two",
                        tolerance,
                        List.of(
                                new OpCase.Operand("x", OpCase.Role.READ, DType.F32, 1, 2, 0, values),
                                new OpCase.Operand("y", OpCase.Role.WRITE, DType.F32, 1, 2, 0, values)),
                        views -> new Activate(Activate.Function.RELU, views.get(0), null, views.get(1)));
                assertThat(new Conformance(faulty, reference)
                                .check(opCase, 1)
                                .failure()
                                .isEmpty())
                        .isEqualTo(Float.isNaN(first) && tolerance instanceof Tolerance.Rounding);
            }
        }
    }

    @ParameterizedTest
    @EnumSource(mode = EnumSource.Mode.EXCLUDE, names = "ONE_NAN_IN_TWO_FORMS")
    void everyFaultIsCaughtAndTheRightBackendPasses(Fault fault) {
        OpCase.Fill ramp = (random, packed, rows, cols) -> {
            for (long i = 0; i < rows * cols; i++) {
                packed.setAtIndex(ValueLayout.JAVA_FLOAT, i, 0.5f + i);
            }
        };
        OpCase opCase = new OpCase(
                Activate.class,
                "ramp",
                new Tolerance.Rounding(4),
                List.of(
                        new OpCase.Operand("x", OpCase.Role.READ, DType.F32, 3, 5, 2, ramp),
                        new OpCase.Operand("y", OpCase.Role.WRITE, DType.F32, 3, 5, 1, ramp)),
                views -> new Activate(Activate.Function.RELU, views.get(0), null, views.get(1)));
        try (Backend faulty = new FaultyBackend(fault);
                Backend reference = AvailableBackends.open("reference")) {
            Conformance.Result result = new Conformance(faulty, reference).check(opCase, 1);
            if (fault == Fault.NONE) {
                assertThat(result.failure()).isEmpty();
                assertThat(result.worstError()).isZero();
            } else {
                assertThat(result.failure())
                        .hasValueSatisfying(line ->
                                assertThat(line).contains("activate/ramp", "seed 1", "faulty", fault.complaint));
            }
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"NONE", "A_VALUE_IS_OFF", "A_VALUE_IS_NAN"})
    void aLargeCaseIsHeldAgainstTheReferenceAtSomeRows(Fault fault) {
        OpCase.Fill constant = (random, packed, rows, cols) -> packed.fill((byte) 0x3F);
        OpCase opCase = new OpCase(
                Activate.class,
                "large",
                new Tolerance.Rounding(4),
                List.of(
                        new OpCase.Operand("x", OpCase.Role.READ, DType.F32, 2003, 4001, 0, constant),
                        new OpCase.Operand("y", OpCase.Role.WRITE, DType.F32, 2003, 4001, 0, constant)),
                views -> new Activate(Activate.Function.RELU, views.get(0), null, views.get(1)));
        assertThat(Sample.of(opCase, new SplittableRandom(1))
                        .part()
                        .operands()
                        .getFirst()
                        .rows())
                .isEqualTo(64);
        try (Backend faulty = new FaultyBackend(fault);
                Backend reference = AvailableBackends.open("reference")) {
            Conformance.Result result = new Conformance(faulty, reference).checkSample(opCase, 1);
            if (fault == Fault.NONE) {
                assertThat(result.failure()).isEmpty();
                assertThat(result.worstError()).isZero();
            } else {
                assertThat(result.failure())
                        .hasValueSatisfying(line -> assertThat(line).contains("activate/large", fault.complaint));
            }
        }
    }
}

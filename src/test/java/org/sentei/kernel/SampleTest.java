package org.sentei.kernel;

import static org.assertj.core.api.Assertions.assertThat;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class SampleTest {
    /** What the reference makes of the operands, in their order. */
    private static List<MemorySegment> run(OpCase opCase, List<MemorySegment> inputs, Arena arena) {
        try (Backend reference = AvailableBackends.open("reference");
                Scope scope = new Scope(reference)) {
            List<View> views = new ArrayList<>();
            for (int i = 0; i < inputs.size(); i++) {
                OpCase.Operand operand = opCase.operands().get(i);
                views.add(scope.matrix(operand.dtype(), operand.rows(), operand.cols()));
                reference.copyIn(inputs.get(i), views.get(i));
            }
            reference.run(opCase.build().apply(views));
            List<MemorySegment> outputs = new ArrayList<>();
            for (View view : views) {
                MemorySegment output = arena.allocate(view.bytes(), 8);
                reference.copyOut(view, output);
                outputs.add(output);
            }
            return outputs;
        }
    }

    @Test
    void aSampleComputedAloneIsTheSampleOfTheWhole() {
        long smaller = 0;
        for (OpCase opCase : OpCases.all()) {
            try (Arena arena = Arena.ofConfined()) {
                SplittableRandom random = new SplittableRandom(3);
                Sample sample = Sample.of(opCase, random);
                List<MemorySegment> inputs = new ArrayList<>();
                List<MemorySegment> ofSample = new ArrayList<>();
                for (int i = 0; i < opCase.operands().size(); i++) {
                    OpCase.Operand operand = opCase.operands().get(i);
                    MemorySegment packed = arena.allocate(
                            operand.rows() * operand.cols() * operand.dtype().bytes(), 8);
                    operand.fill().fill(random.split(), packed, operand.rows(), operand.cols());
                    inputs.add(packed);
                    ofSample.add(sample.picks().get(i).of(operand, packed, arena));
                }
                List<MemorySegment> whole = run(opCase, inputs, arena);
                List<MemorySegment> part = run(sample.part(), ofSample, arena);
                for (int i = 0; i < whole.size(); i++) {
                    OpCase.Operand operand = opCase.operands().get(i);
                    MemorySegment expected = sample.picks().get(i).of(operand, whole.get(i), arena);
                    assertThat(part.get(i).mismatch(expected))
                            .as("%s of %s", operand.name(), opCase.name())
                            .isEqualTo(-1);
                    smaller += part.get(i).byteSize() < whole.get(i).byteSize() ? 1 : 0;
                }
            }
        }
        assertThat(smaller).as("operands of which a part was enough").isGreaterThan(50);
    }

    @Test
    void samplesOfTheShapesOfModelsAreSmall() {
        for (OpCase opCase : OpCases.modelShapes()) {
            Op part =
                    OpCases.unbacked(Sample.of(opCase, new SplittableRandom(1)).part());
            Op whole = OpCases.unbacked(opCase);
            assertThat(part.operations())
                    .as(opCase.name())
                    .isLessThanOrEqualTo(1L << 31)
                    .isLessThanOrEqualTo(whole.operations());
        }
    }
}

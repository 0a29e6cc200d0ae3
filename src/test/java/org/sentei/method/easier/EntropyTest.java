package org.sentei.method.easier;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.model.ModelException;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

class EntropyTest {
    private static final Rectifier.Units CHANNELS = new Rectifier.Units.Channels(1);
    private static final Rectifier.Units LAST = new Rectifier.Units.Last();

    /** Four samples, two channels, two positions. */
    private static final float[] TOY = {1, -1, 2, 0, -1, -1, 3, 1, 1, -2, -1, 0, -1, 1, 1, -1};

    private final Backend backend = Backends.find("reference").open(Backend.Options.defaults());

    @AfterEach
    void close() {
        backend.close();
    }

    private static Tensor tensor(Shape shape, float... values) {
        return new Tensor("z", DType.F32, shape, MemorySegment.ofArray(values));
    }

    private Entropy entropy(Rectifier.Units axis, Entropy.Rule rule) {
        return new Entropy("relu", axis, rule, backend);
    }

    @Test
    void aDataSetIsCountedAsAWholeAndZerosAreInNoState() {
        try (Entropy whole = entropy(CHANNELS, Entropy.Rule.DEFAULT);
                Entropy parts = entropy(CHANNELS, Entropy.Rule.DEFAULT)) {
            whole.add(tensor(Shape.of(4, 2, 2), TOY));
            assertThat(whole.measured().layer()).isEqualTo(0.9363649185, within(1e-10));
            assertThat(whole.measured().zero().sum()).isEqualTo(2);
            for (int sample = 0; sample < 4; sample++) {
                parts.add(tensor(Shape.of(1, 2, 2), Arrays.copyOfRange(TOY, 4 * sample, 4 * sample + 4)));
                parts.endBatch();
            }
            assertThat(parts.measured().layer()).isEqualTo(whole.measured().layer());
        }
    }

    @Test
    void theRepositorysRuleDependsOnTheBatches() {
        try (Entropy one = entropy(CHANNELS, Entropy.Rule.EASIER_REPO);
                Entropy two = entropy(CHANNELS, Entropy.Rule.EASIER_REPO)) {
            one.add(tensor(Shape.of(4, 2, 2), TOY));
            one.endBatch();
            assertThat(one.measured().layer()).isEqualTo(0.8828560636, within(1e-10));
            two.add(tensor(Shape.of(2, 2, 2), Arrays.copyOf(TOY, 8)));
            two.endBatch();
            two.add(tensor(Shape.of(2, 2, 2), Arrays.copyOfRange(TOY, 8, 16)));
            // measuring ends the last batch
            assertThat(two.measured().layer()).isEqualTo(0.7028195311, within(1e-10));
            assertThat(two.measured().layer()).isEqualTo(0.7028195311, within(1e-10));
        }
    }

    @Test
    void positionsAsUnitsOfTheirOwnGiveAnotherNumber() {
        // the wrong order of C1: entropy a position, then the mean
        try (Entropy positions = entropy(LAST, Entropy.Rule.EASIER_REPO)) {
            positions.add(tensor(Shape.of(4, 4), TOY));
            assertThat(positions.measured().layer()).isEqualTo(0.8584585933, within(1e-10));
        }
    }

    @Test
    void unitsThatAreAlwaysOnOrAlwaysOffHaveNone() {
        for (Entropy.Rule rule : Entropy.Rule.values()) {
            try (Entropy entropy = entropy(LAST, rule)) {
                entropy.add(tensor(Shape.of(2, 3), 1, -1, 0, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY, -0f));
                Entropy.Measured measured = entropy.measured();
                assertThat(measured.layer()).isEqualTo(0.0);
                assertThat(measured.on().of(0)).isEqualTo(2);
                assertThat(measured.off().of(1)).isEqualTo(2);
                assertThat(measured.zero().of(2)).isEqualTo(2);
                assertThat(measured.unit(2)).isEqualTo(0.0);
            }
        }
        assertThat(Entropy.of(0, 0)).isEqualTo(0.0);
        assertThat(Entropy.of(5, 0)).isEqualTo(0.0);
        assertThat(Entropy.of(0, 5)).isEqualTo(0.0);
        assertThat(Entropy.of(5, 5)).isEqualTo(1.0);
    }

    @Test
    void everyBackendCountsTheSame() {
        Random random = new Random(3);
        float[] values = new float[6 * 5 * 7];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) random.nextGaussian();
        }
        try (Entropy here = entropy(CHANNELS, Entropy.Rule.DEFAULT)) {
            here.add(tensor(Shape.of(6, 5, 7), values));
            for (Backend.Provider provider : Backends.providers()) {
                if (provider.unavailableBecause().isEmpty()) {
                    try (Backend other = provider.open(Backend.Options.defaults());
                            Entropy there = new Entropy("relu", CHANNELS, Entropy.Rule.DEFAULT, other)) {
                        there.add(tensor(Shape.of(6, 5, 7), values));
                        assertThat(there.measured().layer())
                                .isEqualTo(here.measured().layer());
                    }
                }
            }
        }
    }

    @Test
    void whatCannotBeCountedIsRefused() {
        try (Entropy entropy = entropy(LAST, Entropy.Rule.DEFAULT)) {
            assertThatThrownBy(entropy::measured)
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("relu was never run");
            assertThatThrownBy(() -> entropy.add(tensor(Shape.of(1, 2), 1, Float.NaN)))
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("NaN");
            assertThatThrownBy(() -> entropy.add(tensor(Shape.of(1, 3), 1, 2, 3)))
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("had 2 units and now has 3");
            assertThatThrownBy(() -> entropy.add(tensor(Shape.of(), 1)))
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("units cannot be counted");
        }
    }
}

package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.model.ModelException;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** What scores say. */
class PredictionsTest {
    private static final Optional<List<String>> KEYS = Optional.of(List.of("a", "b"));

    @Test
    void theLargestScoreIsTheClass() {
        assertThat(Predictions.read(scores(Shape.of(1, 4), 0, 3, 3, -1), Optional.empty()))
                .isEqualTo("1");
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 3})
    void nothingIsReadFromScoresThatAreNotNumbers(int where) {
        float[] scores = {0, 3, 2, -1};
        scores[where] = Float.NaN;
        assertThatThrownBy(() -> Predictions.read(scores(Shape.of(1, 4), scores), Optional.empty()))
                .isInstanceOf(ModelException.class)
                .hasMessageContaining("output scores is NaN at " + where);
    }

    /** Classes: 0 none, 1 a, 2 b, 3 a space. */
    @Test
    void repeatedClassesAreOneLetterAndNoneParts() {
        int[] best = {1, 1, 0, 1, 2, 2, 3, 2, 0};
        float[] steps = new float[best.length * 4];
        for (int i = 0; i < best.length; i++) {
            steps[i * 4 + best[i]] = 1;
        }
        assertThat(Predictions.read(scores(Shape.of(1, best.length, 4), steps), KEYS))
                .isEqualTo("aabb");
        assertThatThrownBy(() -> Predictions.read(scores(Shape.of(1, 1, 5), 0, 0, 0, 0, 1), KEYS))
                .isInstanceOf(ModelException.class)
                .hasMessageContaining("keys.txt has 2 characters");
    }

    private static Tensor scores(Shape shape, float... values) {
        return new Tensor("scores", DType.F32, shape, MemorySegment.ofArray(values));
    }
}

package org.sentei.kernel;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Packing of filters, the rule of rounding, and what is refused before any kernel sees it. */
class Int8FiltersTest {
    private static final Int8Filters.Scales SCALES = new Int8Filters.Scales(0.5f, 3, 0, 0.25f);

    @ParameterizedTest
    @CsvSource({"1,1,1,1", "19,5,1,9", "64,64,1,9", "12,6,3,4", "40,40,40,9", "6,3,3,1", "17,17,17,25"})
    void everyWeightHasItsOwnPlaceAndTheRestIsZero(int filters, int channels, int groups, int taps) {
        Int8Filters.Layout layout = new Int8Filters.Layout(filters, channels, groups, taps);
        int size = channels / groups * taps;
        byte[] weights = new byte[filters * size];
        Arrays.fill(weights, (byte) 1);
        float[] scales = new float[filters];
        Arrays.fill(scales, 1);
        Int8Filters packed = Int8Filters.pack(layout, weights, scales, null, SCALES);
        long ones = 0;
        for (long i = 0; i < packed.weights().byteSize(); i++) {
            ones += packed.weights().get(ValueLayout.JAVA_BYTE, i);
        }
        Set<Long> places = new HashSet<>();
        for (int filter = 0; filter < filters; filter++) {
            for (int tap = 0; tap < taps; tap++) {
                for (int channel = 0; channel < channels / groups; channel++) {
                    places.add(layout.row(filter) * layout.cols() + layout.col(filter, tap, channel));
                }
            }
        }
        assertThat(ones).isEqualTo(weights.length);
        assertThat(places).hasSize(weights.length).allMatch(place -> place < layout.rows() * layout.cols());
        assertThat(packed.bias().getAtIndex(ValueLayout.JAVA_INT, filters - 1)).isEqualTo(-3 * size);
        assertThat(packed.scale().getAtIndex(ValueLayout.JAVA_FLOAT, filters - 1))
                .isEqualTo(2);
    }

    @Test
    void aBiasThatLeavesNoRoomForTheSumIsRefused() {
        Int8Filters.Layout layout = new Int8Filters.Layout(2, 4, 1, 1);
        byte[] weights = {1, 2, 3, 4, -5, 6, -7, 8};
        int[] most = {Integer.MAX_VALUE - 255 * 10 + 3 * 10, 0};
        Int8Filters packed = Int8Filters.pack(layout, weights, new float[] {1, 1}, most, SCALES);
        assertThat(packed.bias().getAtIndex(ValueLayout.JAVA_INT, 0)).isEqualTo(Integer.MAX_VALUE - 255 * 10);
        most[0]++;
        assertThatThrownBy(() -> Int8Filters.pack(layout, weights, new float[] {1, 1}, most, SCALES))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("filter 0 can reach 2147483648");
        int[] least = {0, Integer.MIN_VALUE};
        assertThatThrownBy(() -> Int8Filters.pack(layout, weights, new float[] {1, 1}, least, SCALES))
                .hasMessageContaining("filter 1 can reach");
    }

    @Test
    void aFilterWithTooManyWeightsIsRefused() {
        for (int channels : new int[] {66_311, 66_312}) {
            Int8Filters.Layout layout = new Int8Filters.Layout(1, channels, 1, 1);
            byte[] weights = new byte[channels];
            Arrays.fill(weights, (byte) 127);
            Int8Filters.Scales scales = new Int8Filters.Scales(1, 0, 0, 1);
            if (channels == 66_311) {
                Int8Filters.pack(layout, weights, new float[] {1}, null, scales);
            } else {
                assertThatThrownBy(() -> Int8Filters.pack(layout, weights, new float[] {1}, null, scales))
                        .isInstanceOf(IllegalArgumentException.class)
                        .hasMessageContaining("too many weights (66312)");
            }
        }
    }

    @ParameterizedTest
    @ValueSource(floats = {0, -1, 1e-40f, Float.NaN, Float.POSITIVE_INFINITY})
    void aScaleThatIsNoNormalNumberIsRefused(float scale) {
        Int8Filters.Layout layout = new Int8Filters.Layout(2, 1, 1, 1);
        assertThatThrownBy(() -> Int8Filters.pack(layout, new byte[2], new float[] {1, scale}, null, SCALES))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("the scale of filter 1 must be a normal positive number");
    }

    @Test
    void arraysOfOtherLengthsAreRefused() {
        Int8Filters.Layout layout = new Int8Filters.Layout(2, 3, 1, 4);
        assertThatThrownBy(() -> Int8Filters.pack(layout, new byte[23], new float[2], null, SCALES))
                .hasMessageContaining("2 filters of 12 weights cannot be made of 23 weights, 2 scales");
        assertThatThrownBy(() -> Int8Filters.pack(layout, new byte[24], new float[2], new int[1], SCALES))
                .hasMessageContaining("1 biases");
        assertThatThrownBy(() -> new Int8Filters.Layout(4, 6, 4, 1)).hasMessageContaining("4 groups cannot share");
    }

    @ParameterizedTest
    @CsvSource({"0.5,10", "1.5,12", "2.5,12", "-0.5,10", "-1.5,8", "-10.5,0", "1e30,200", "NaN,0", "-Infinity,0"})
    void halvesGoToTheEvenIntegerBeforeTheZeroPointIsAdded(float value, int expected) {
        assertThat(new Levels(10, 0, 200).quantize(value)).isEqualTo(expected);
    }

    @Test
    void aWindowThatDoesNotFitIsRefused() {
        assertThat(Window.square(7, 7, 3, 2, 1).outputHeight()).isEqualTo(4);
        assertThatThrownBy(() -> Window.square(2, 9, 5, 1, 1))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("a kernel that reaches over 5 does not fit the padded height of 4");
        assertThatThrownBy(() -> Window.square(4, 4, 3, 0, 1)).hasMessageContaining("stride 0");
        assertThatThrownBy(() -> Window.square(4, Integer.MAX_VALUE, 3, 1, 1)).hasMessageContaining("padded width");
    }
}

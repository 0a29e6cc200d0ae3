package org.sentei.method.easier;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.function.IntToDoubleFunction;
import java.util.stream.IntStream;
import org.sentei.method.easier.Rectifier.Units;
import org.sentei.model.ModelException;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * The line {@code y = scale z + shift}, one a unit, that takes an activation's place.
 *
 * <p>In a graph it is {@code Mul} and {@code Add} with constants, which fold into the layer before, or nothing at all where it is
 * the identity.
 */
public final class Linearization {
    private final double[] scale;
    private final double[] shift;

    /** Which line. */
    public enum Form {
        /** {@code y = z}, as in 2404.18949: right for units that are on. */
        IDENTITY,
        /** {@code y = z} for units that are on as often as off, or more often, 0 for the others (2412.15077). */
        SIGN,
        /** The line nearest to the activation on the data, in the mean square. */
        AFFINE
    }

    private Linearization(int units, IntToDoubleFunction scale, IntToDoubleFunction shift) {
        this.scale = IntStream.range(0, units).mapToDouble(scale).toArray();
        this.shift = IntStream.range(0, units).mapToDouble(shift).toArray();
    }

    /** The identity of so many units. */
    public static Linearization identity(int units) {
        return new Linearization(units, _ -> 1, _ -> 0);
    }

    /** What {@link Form#SIGN} makes of counted states. */
    public static Linearization sign(Entropy.Measured measured) {
        return new Linearization(
                measured.units(),
                unit -> measured.off().of(unit) > measured.on().of(unit) ? 0 : 1,
                _ -> 0);
    }

    /** Units of the layer. */
    public int units() {
        return scale.length;
    }

    /** Slope of a unit's line. */
    public double scale(int unit) {
        return scale[unit];
    }

    /** Where a unit's line is at 0. */
    public double shift(int unit) {
        return shift[unit];
    }

    /**
     * The sums that the nearest line follows from: {@code scale = Cov(z, y) / Var(z)}, {@code shift = E y - scale E z}. In fp64
     * on the host, relative to the first element of each unit, so that few digits cancel.
     */
    public static final class Fit {
        private static final int SUMS = 4;

        private final Units axis;
        private double[] firstIn;
        private double[] firstOut;
        /** A unit: of z, y, z z and z y. */
        private double[][] sums;

        private long[] counts;

        /** Starts with no data. */
        public Fit(Units axis) {
            this.axis = axis;
        }

        /**
         * Adds what goes into an activation and what comes out of it.
         *
         * @throws ModelException when the two do not go together
         */
        public void add(Tensor in, Tensor out) {
            Shape shape = in.shape();
            if (in.dtype() != DType.F32
                    || out.dtype() != DType.F32
                    || !Arrays.equals(shape.toArray(), out.shape().toArray())
                    || shape.rank() < 2) {
                throw new ModelException("an activation makes " + out.shape() + " " + out.dtype() + " of " + shape + " "
                        + in.dtype() + "; no line can be fitted to it, leave it out");
            }
            int at = axis instanceof Units.Channels ? 1 : shape.rank() - 1;
            int units = Math.toIntExact(shape.dimension(at));
            long inner = 1;
            for (int i = at + 1; i < shape.rank(); i++) {
                inner *= shape.dimension(i);
            }
            float[] z = Floats.toArray(in);
            float[] y = Floats.toArray(out);
            if (sums == null) {
                sums = new double[SUMS][units];
                firstIn = new double[units];
                firstOut = new double[units];
                counts = new long[units];
            }
            if (counts.length != units) {
                throw new ModelException("an activation had " + counts.length + " units and now has " + units
                        + "; feed samples of one shape");
            }
            for (int i = 0; i < z.length; i++) {
                int unit = (int) (i / inner % units);
                if (counts[unit]++ == 0) {
                    firstIn[unit] = z[i];
                    firstOut[unit] = y[i];
                }
                double dz = z[i] - firstIn[unit];
                double dy = y[i] - firstOut[unit];
                sums[0][unit] += dz;
                sums[1][unit] += dy;
                sums[2][unit] += dz * dz;
                sums[3][unit] += dz * dy;
            }
        }

        /**
         * The nearest line; the mean of y where z never changes.
         *
         * @throws ModelException without data, or for data that are not finite
         */
        public Linearization line() {
            if (sums == null) {
                throw new ModelException("an activation was never run; give at least one sample");
            }
            Linearization line = new Linearization(counts.length, this::slope, unit -> {
                double n = Math.max(1, counts[unit]);
                return firstOut[unit] + sums[1][unit] / n - slope(unit) * (firstIn[unit] + sums[0][unit] / n);
            });
            for (int unit = 0; unit < line.units(); unit++) {
                if (!Double.isFinite(line.scale[unit]) || !Double.isFinite(line.shift[unit])) {
                    throw new ModelException(
                            "unit " + unit + " of an activation gets values that are not finite; the model"
                                    + " is damaged or diverged");
                }
            }
            return line;
        }

        private double slope(int unit) {
            double n = Math.max(1, counts[unit]);
            double variance = sums[2][unit] - sums[0][unit] * sums[0][unit] / n;
            double covariance = sums[3][unit] - sums[0][unit] * sums[1][unit] / n;
            // Where z never changes, the differences are 0 exactly.
            return variance == 0 ? 0 : covariance / variance;
        }
    }

    /**
     * The graph with this line where the activation was. The output keeps its name where the graph or a nested one needs it.
     */
    public LayerGraph applyTo(LayerGraph graph, Rectifier rectifier) {
        LayerGraph.Editor edit = graph.edit();
        List<Layer> line = new ArrayList<>();
        String value = rectifier.input();
        if (Arrays.stream(scale).anyMatch(factor -> factor != 1)) {
            value = append(edit, line, rectifier, "Mul", "scale", value, scale);
        }
        if (Arrays.stream(shift).anyMatch(term -> term != 0)) {
            value = append(edit, line, rectifier, "Add", "shift", value, shift);
        }
        boolean named = graph.isOutput(rectifier.output())
                || graph.readers(rectifier.output()).stream()
                        .anyMatch(reader -> reader.captures().contains(rectifier.output()));
        if (!named) {
            edit.redirect(rectifier.output(), value);
        } else if (line.isEmpty()) {
            line.add(Layer.of(rectifier.name(), "Identity", List.of(value), rectifier.output(), Map.of()));
        } else {
            line.add(line.removeLast().withOutput(rectifier.output()));
        }
        rectifier.layers().forEach(edit::replace);
        return edit.replace(rectifier.layers().getLast(), line.toArray(Layer[]::new))
                .build();
    }

    private static String append(
            LayerGraph.Editor edit,
            List<Layer> line,
            Rectifier rectifier,
            String operator,
            String word,
            String value,
            double[] numbers) {
        float[] rounded = new float[numbers.length];
        for (int i = 0; i < rounded.length; i++) {
            rounded[i] = (float) numbers[i];
        }
        long[] shape = {numbers.length};
        if (rectifier.units() instanceof Units.Channels(int spatial)) {
            shape = new long[spatial + 1];
            Arrays.fill(shape, 1);
            shape[0] = numbers.length;
        }
        String name = edit.fresh(rectifier.name() + "." + word);
        String constant = edit.constant(name + ".constant", DType.F32, Shape.of(shape), MemorySegment.ofArray(rounded));
        String made = edit.fresh(name + ".output");
        line.add(Layer.of(name, operator, List.of(value, constant), made, Map.of()));
        return made;
    }
}

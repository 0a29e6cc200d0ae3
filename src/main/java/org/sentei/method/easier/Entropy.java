package org.sentei.method.easier;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Scope;
import org.sentei.kernel.StateCounts;
import org.sentei.kernel.View;
import org.sentei.method.easier.Rectifier.Units;
import org.sentei.model.ModelException;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * How undecided a {@link Rectifier} is (2404.18949): with p the share of a unit's inputs above zero,
 *
 * <pre>H = -p log2 p - (1-p) log2 (1-p)</pre>
 *
 * of a unit, and the mean over units of a layer. 0 where a unit is always on or always off: there the activation is linear.
 */
public final class Entropy implements AutoCloseable {
    /** Least argument of the logarithm in the authors' code. */
    private static final double REPOSITORY_FLOOR = 1e-10;

    private final String name;
    private final Units axis;
    private final Rule rule;
    private final Scope scope;
    private View counts;
    private long[] total;
    private long[] batch;
    private double batchEntropies;
    private long batches;

    /** Which counts p comes from. */
    public enum Rule {
        /** Those of the whole data set, zeros left out, as the paper says. */
        DEFAULT,
        /**
         * Those of every mini-batch, zeros counted as on, and the mean of the mini-batches' entropies: what the authors'
         * repository does. Lower than of the whole, and depends on the size of batches.
         */
        EASIER_REPO
    }

    /**
     * What was measured.
     *
     * @param layer mean over the units
     * @param on a unit, elements above zero
     * @param off a unit, elements below zero
     * @param zero a unit, elements at zero
     */
    public record Measured(double layer, Counts on, Counts off, Counts zero) {
        /** Entropy of a unit by its counts over all data. */
        public double unit(int unit) {
            return of(on.of(unit), off.of(unit));
        }

        /** Units of the layer. */
        public int units() {
            return on.values.length;
        }
    }

    /** A count a unit. */
    public static final class Counts {
        private final long[] values;

        private Counts(long... values) {
            this.values = values;
        }

        /** That of a unit. */
        public long of(int unit) {
            return values[unit];
        }

        /** Over all units. */
        public long sum() {
            return Arrays.stream(values).sum();
        }
    }

    /**
     * Starts with nothing counted.
     *
     * @param name of the activation, for messages
     */
    public Entropy(String name, Units axis, Rule rule, Backend backend) {
        this.name = name;
        this.axis = axis;
        this.rule = rule;
        this.scope = new Scope(backend);
    }

    /** Entropy in bits of a unit that was on and off so often; 0 where one of them is 0. */
    public static double of(long on, long off) {
        if (on == 0 || off == 0) {
            return 0;
        }
        double p = (double) on / (on + off);
        double q = (double) off / (on + off);
        return -(p * log2(p) + q * log2(q));
    }

    private static double log2(double x) {
        return Math.log(x) / Math.log(2);
    }

    /**
     * Counts what goes into the activation, samples along axis 0.
     *
     * @throws ModelException for NaN, for other than F32, or when the number of units changes
     */
    public void add(Tensor value) {
        Shape shape = value.shape();
        if (value.dtype() != DType.F32 || shape.rank() < (axis instanceof Units.Channels ? 2 : 1)) {
            throw new ModelException("activation " + name + " gets " + value.dtype() + " of the shape " + shape
                    + ", where units cannot be counted; leave it out");
        }
        long units = shape.dimension(axis instanceof Units.Channels ? 1 : shape.rank() - 1);
        if (units == 0) {
            throw new ModelException("activation " + name + " has no units; leave it out");
        }
        long outer = axis instanceof Units.Channels ? shape.dimension(0) : shape.elements() / units;
        if (counts == null) {
            counts = scope.zeros(DType.I64, StateCounts.STATES, units);
            total = new long[Math.toIntExact(StateCounts.STATES * units)];
            batch = new long[total.length];
        }
        if (counts.cols() != units) {
            throw new ModelException("activation " + name + " had " + counts.cols() + " units and now has " + units
                    + "; feed samples of one shape");
        }
        try (Scope local = scope.child()) {
            View x = local.matrix(outer, outer == 0 ? 0 : shape.elements() / outer);
            if (x.cols() == 0) {
                return;
            }
            scope.backend().copyIn(value.data(), x);
            scope.backend().run(new StateCounts(x, counts));
            MemorySegment read = MemorySegment.ofArray(new long[total.length]);
            scope.backend().copyOut(counts, read);
            long[] now = read.toArray(ValueLayout.JAVA_LONG);
            for (int i = 0; i < now.length; i++) {
                long added = now[i] - total[i];
                batch[i] += added;
                total[i] = now[i];
            }
        }
        int size = Math.toIntExact(units);
        if (Arrays.stream(total, StateCounts.NAN * size, total.length).anyMatch(nans -> nans > 0)) {
            throw new ModelException("activation " + name + " gets NaN; the model is damaged or diverged");
        }
    }

    /** Ends a mini-batch: the rule of the repository averages over them. */
    public void endBatch() {
        if (batch == null) {
            return;
        }
        int units = batch.length / StateCounts.STATES;
        double sum = 0;
        long seen = 0;
        for (int unit = 0; unit < units; unit++) {
            long on = batch[StateCounts.ON * units + unit] + batch[StateCounts.ZERO * units + unit];
            long off = batch[StateCounts.OFF * units + unit];
            seen += on + off;
            sum += floored((double) on / (on + off)) + floored((double) off / (on + off));
        }
        if (seen > 0) {
            batchEntropies += sum / units;
            batches++;
        }
        Arrays.fill(batch, 0);
    }

    private static double floored(double p) {
        return p == 0 ? 0 : -p * log2(Math.max(p, REPOSITORY_FLOOR));
    }

    /**
     * What was counted.
     *
     * @throws ModelException when it was nothing
     */
    public Measured measured() {
        if (total == null) {
            throw new ModelException("activation " + name + " was never run; give at least one sample");
        }
        int units = total.length / StateCounts.STATES;
        Counts on = row(StateCounts.ON, units);
        Counts off = row(StateCounts.OFF, units);
        double mean = 0;
        for (int unit = 0; unit < units; unit++) {
            mean += of(on.of(unit), off.of(unit)) / units;
        }
        if (rule == Rule.EASIER_REPO) {
            endBatch();
            mean = batches == 0 ? 0 : batchEntropies / batches;
        }
        return new Measured(mean, on, off, row(StateCounts.ZERO, units));
    }

    private Counts row(int state, int units) {
        return new Counts(Arrays.copyOfRange(total, state * units, (state + 1) * units));
    }

    @Override
    public void close() {
        scope.close();
    }
}

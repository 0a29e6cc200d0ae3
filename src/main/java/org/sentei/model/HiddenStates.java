package org.sentei.model;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.sentei.kernel.Backend;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.tensor.DType;

/**
 * The hidden states of many batches on their way through a model: parked in host memory, brought to the device one batch
 * at a time, so that each block's weights are loaded once.
 */
public final class HiddenStates implements AutoCloseable {
    private final Transformer model;
    private final Scope scope;
    private final Arena arena = Arena.ofConfined();
    private final List<BatchGeometry> geometries = new ArrayList<>();
    private final List<MemorySegment> states = new ArrayList<>();
    /** Of how many parts a batch goes through the model one after the other. */
    private int parts = 1;

    /**
     * Embeds all batches.
     *
     * @param parent scope of the backend to run on; must stay open longer than this
     * @throws ModelException as {@link Transformer#check(TokenBatch)}, or when the host has no memory for the states
     */
    public HiddenStates(Transformer model, List<TokenBatch> batches, Scope parent) {
        this.model = model;
        batches.forEach(model::check);
        this.scope = parent.child();
        try {
            Map<Integer, BatchGeometry.Angles> angles = new HashMap<>();
            long width = model.spec().width();
            for (TokenBatch batch : batches) {
                geometries.add(model.geometry(
                        batch, angles.computeIfAbsent(batch.length(), length -> model.angles(length, scope)), scope));
                states.add(HostMemory.allocate(
                        arena,
                        batch.tokens() * width * Float.BYTES,
                        "keeping the hidden states of batch " + states.size()));
                eachPart(states.size() - 1, true, part -> embed(batch, part));
            }
        } catch (RuntimeException e) {
            try {
                close();
            } catch (RuntimeException second) {
                e.addSuppressed(second);
            }
            throw e;
        }
    }

    /** Consecutive sequences of a batch. */
    private record Part(int batch, long first, long end, BatchGeometry geometry) {
        long rows() {
            return geometry.sequences() * geometry.length();
        }
    }

    private void embed(TokenBatch batch, Part part) {
        try (Scope scratch = scope.child()) {
            View hidden = model.embed(batch.sequences((int) part.first(), (int) part.end()), scratch);
            backend().copyOut(hidden, state(part));
        }
    }

    /**
     * Works on a batch part by part. When the device has no memory for a part as large as those before, all parts become
     * half as large from there on, once.
     *
     * @param repeatable whether the work can be done again for a part that it failed on
     */
    private void eachPart(int batch, boolean repeatable, Consumer<Part> work) {
        long sequences = geometries.get(batch).sequences();
        for (long done = 0; done < sequences; ) {
            Part part = part(batch, done);
            try {
                work.accept(part);
                done = part.end();
            } catch (DeviceException e) {
                if (!repeatable || e.kind() != DeviceException.Kind.OUT_OF_MEMORY || !halve()) {
                    throw e;
                }
            }
        }
    }

    private Part part(int batch, long first) {
        BatchGeometry whole = geometries.get(batch);
        long end = Math.min(whole.sequences(), first + Math.ceilDiv(whole.sequences(), (long) parts));
        return new Part(batch, first, end, whole.sequences(first, end));
    }

    private MemorySegment state(Part part) {
        long rowBytes = DType.F32.bytesFor(model.spec().width());
        return states.get(part.batch())
                .asSlice(part.first() * part.geometry().length() * rowBytes, part.rows() * rowBytes);
    }

    /**
     * From now on takes half of a batch through the model at once, for when the device has no memory for more.
     *
     * @return false when it does already, or no batch has two sequences
     */
    public boolean halve() {
        if (parts > 1 || geometries.stream().allMatch(geometry -> geometry.sequences() < 2)) {
            return false;
        }
        parts = 2;
        return true;
    }

    private Backend backend() {
        return scope.backend();
    }

    /**
     * Runs a block over all batches for the observer's sake; the states stay as they are.
     *
     * @throws DeviceException OUT_OF_MEMORY when the observer has seen some of the data: begin again after {@link #halve}
     */
    public void observe(BlockWeights weights, LinearObserver observer) {
        runBlock(weights, observer, false);
    }

    /** Runs a block over all batches; its outputs become the states. */
    public void advance(BlockWeights weights, LinearObserver observer) {
        runBlock(weights, observer, true);
    }

    private void runBlock(BlockWeights weights, LinearObserver observer, boolean keep) {
        boolean repeatable = observer.equals(LinearObserver.NONE);
        for (int batch = 0; batch < states.size(); batch++) {
            observer.batch(batch);
            eachPart(batch, repeatable, part -> {
                try (Scope scratch = scope.child()) {
                    View hidden = fetch(part, scratch);
                    model.runBlock(weights, hidden, part.geometry(), scratch, observer);
                    if (keep) {
                        backend().copyOut(hidden, state(part));
                    }
                }
            });
        }
    }

    /** Hands the model's output over all batches to the consumer; rows are counted on from batch to batch. */
    public void finish(HeadWeights weights, LinearObserver observer, Transformer.OutputConsumer consumer) {
        long[] before = new long[1];
        for (int batch = 0; batch < states.size(); batch++) {
            observer.batch(batch);
            eachPart(batch, false, part -> {
                try (Scope scratch = scope.child()) {
                    model.finish(
                            weights,
                            fetch(part, scratch),
                            scratch,
                            observer,
                            (first, rows) -> consumer.rows(before[0] + first, rows));
                }
                before[0] += part.rows();
            });
        }
    }

    private View fetch(Part part, Scope scratch) {
        View hidden = scratch.matrix(part.rows(), model.spec().width());
        backend().copyIn(state(part), hidden);
        return hidden;
    }

    /** Frees the states; calling it again does nothing. */
    @Override
    public void close() {
        if (arena.scope().isAlive()) {
            arena.close();
        }
        scope.close();
    }
}

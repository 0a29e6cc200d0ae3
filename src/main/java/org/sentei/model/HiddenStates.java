package org.sentei.model;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;

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
            for (TokenBatch batch : batches) {
                geometries.add(model.geometry(
                        batch, angles.computeIfAbsent(batch.length(), length -> model.angles(length, scope)), scope));
                try (Scope scratch = scope.child()) {
                    View hidden = model.embed(batch, scratch);
                    states.add(HostMemory.allocate(
                            arena, hidden.bytes(), "keeping the hidden states of batch " + states.size()));
                    backend().copyOut(hidden, states.getLast());
                }
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

    private Backend backend() {
        return scope.backend();
    }

    /** Runs a block over all batches for the observer's sake; the states stay as they are. */
    public void observe(BlockWeights weights, LinearObserver observer) {
        runBlock(weights, observer, false);
    }

    /** Runs a block over all batches; its outputs become the states. */
    public void advance(BlockWeights weights, LinearObserver observer) {
        runBlock(weights, observer, true);
    }

    private void runBlock(BlockWeights weights, LinearObserver observer, boolean keep) {
        for (int batch = 0; batch < states.size(); batch++) {
            try (Scope scratch = scope.child()) {
                View hidden = fetch(batch, scratch);
                model.runBlock(weights, hidden, geometries.get(batch), scratch, observer);
                if (keep) {
                    backend().copyOut(hidden, states.get(batch));
                }
            }
        }
    }

    /** Hands the model's output over all batches to the consumer; rows are counted on from batch to batch. */
    public void finish(HeadWeights weights, LinearObserver observer, Transformer.OutputConsumer consumer) {
        long before = 0;
        for (int batch = 0; batch < states.size(); batch++) {
            try (Scope scratch = scope.child()) {
                View hidden = fetch(batch, scratch);
                long offset = before;
                model.finish(weights, hidden, scratch, observer, (first, rows) -> consumer.rows(offset + first, rows));
                before += hidden.rows();
            }
        }
    }

    private View fetch(int batch, Scope scratch) {
        BatchGeometry geometry = geometries.get(batch);
        View hidden = scratch.matrix(
                geometry.sequences() * geometry.length(), model.spec().width());
        backend().copyIn(states.get(batch), hidden);
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

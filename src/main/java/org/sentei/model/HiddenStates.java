package org.sentei.model;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.sentei.kernel.Backend;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.Download;
import org.sentei.kernel.Scope;
import org.sentei.kernel.Upload;
import org.sentei.kernel.View;
import org.sentei.tensor.DType;

/**
 * The hidden states of many batches on their way through a model: parked in host memory, brought to the device one batch
 * at a time, so that each block's weights are loaded once.
 */
public final class HiddenStates implements AutoCloseable {
    /** Batches in whose time the states of the first one have surely reached the host. */
    private static final int FIRST_HAS_LEFT = 2;

    private final Transformer model;
    private final Scope scope;
    /** Shared, for drivers copy by threads of their own. */
    private final Arena arena = Arena.ofShared();

    private final List<BatchGeometry> geometries = new ArrayList<>();
    /** Tokens before each batch. */
    private final List<Long> begins = new ArrayList<>();
    /** F32 tokens x width. */
    private final MemorySegment states;
    /** Of the states of {@link #leaving}; those before it have arrived. */
    private Download last = Download.DONE;
    /** The batch whose states may still be on their way to the host; -1 for none. */
    private int leaving = -1;
    /** The first part, brought while the last one of the pass before was worked on; null without. */
    private Coming first;
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
        long tokens = 0;
        try {
            Map<Integer, BatchGeometry.Angles> angles = new HashMap<>();
            for (TokenBatch batch : batches) {
                geometries.add(model.geometry(
                        batch, angles.computeIfAbsent(batch.length(), length -> model.angles(length, scope)), scope));
                begins.add(tokens);
                tokens += batch.tokens();
            }
            this.states = HostMemory.allocate(
                    backend(), arena, tokens * rowBytes(), "keeping the hidden states of " + tokens + " tokens");
            for (int batch = 0; batch < batches.size(); batch++) {
                embed(batches.get(batch), batch);
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

    private void embed(TokenBatch batch, int index) {
        for (Part part = part(index, 0); part != null && part.batch() == index; ) {
            try (Scope scratch = scope.child()) {
                keep(model.embed(batch.sequences((int) part.first(), (int) part.end()), scratch), part);
                part = after(part);
            } catch (DeviceException e) {
                part = halved(part, e);
            }
        }
    }

    /** The same part, or what is now the first half of it, when there is less to be tried. */
    private Part halved(Part part, DeviceException cause) {
        if (cause.kind() != DeviceException.Kind.OUT_OF_MEMORY || !halve()) {
            throw cause;
        }
        return part(part.batch(), part.first());
    }

    /** Work on a part of a batch. */
    @FunctionalInterface
    private interface Work {
        void on(Part part, View hidden, Scope scratch);
    }

    /**
     * Works on all batches part by part; the next part is brought to the device meanwhile. When the device has no memory for
     * a part as large as those before, all parts become half as large from there on, once.
     *
     * @param repeatable whether the work can be done again for a part that it failed on
     */
    private void eachPart(boolean repeatable, LinearObserver observer, Work work) {
        Coming now = first == null ? coming(geometries.isEmpty() ? null : part(0, 0)) : first;
        Coming next = null;
        first = null;
        int announced = -1;
        try {
            while (now != null) {
                Part part = now.part();
                if (part.batch() != announced) {
                    announced = part.batch();
                    observer.batch(announced);
                }
                Part following = after(part);
                if (following != null) {
                    next = coming(following);
                } else if (part.batch() >= FIRST_HAS_LEFT) {
                    first = coming(part(0, 0));
                }
                try (Scope scratch = scope.child()) {
                    View hidden = scratch.uploaded(
                            now.upload(), DType.F32, part.rows(), model.spec().width());
                    work.on(part, hidden, scratch);
                } catch (DeviceException e) {
                    if (!repeatable) {
                        throw e;
                    }
                    close(next);
                    close(first);
                    first = null;
                    next = coming(halved(part, e));
                }
                close(now);
                now = next;
                next = null;
            }
        } finally {
            close(now);
            close(next);
        }
    }

    /** A part on its way to the device. */
    private record Coming(Part part, Upload upload) {}

    private Coming coming(Part part) {
        if (part == null) {
            return null;
        }
        if (part.batch() == leaving) {
            arrive();
        }
        return new Coming(part, backend().upload(state(part)));
    }

    private void arrive() {
        last.await();
        last = Download.DONE;
        leaving = -1;
    }

    private static void close(Coming coming) {
        if (coming != null) {
            coming.upload().close();
        }
    }

    /** Brings a part's states to the host; one travels while the next is worked on. */
    private void keep(View hidden, Part part) {
        Download arriving = backend().download(hidden, state(part));
        last.await();
        last = arriving;
        leaving = part.batch();
    }

    private Part part(int batch, long first) {
        BatchGeometry whole = geometries.get(batch);
        long end = Math.min(whole.sequences(), first + Math.ceilDiv(whole.sequences(), (long) parts));
        return new Part(batch, first, end, whole.sequences(first, end));
    }

    /** The part behind this one; null at the end. */
    private Part after(Part part) {
        if (part.end() < geometries.get(part.batch()).sequences()) {
            return part(part.batch(), part.end());
        }
        return part.batch() + 1 < geometries.size() ? part(part.batch() + 1, 0) : null;
    }

    private MemorySegment state(Part part) {
        long first = begins.get(part.batch()) + part.first() * part.geometry().length();
        return states.asSlice(first * rowBytes(), part.rows() * rowBytes());
    }

    private long rowBytes() {
        return DType.F32.bytesFor(model.spec().width());
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
        close(first);
        first = null;
        return true;
    }

    /** Whether batches go through the model in halves. */
    public boolean isHalved() {
        return parts > 1;
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
        eachPart(observer.equals(LinearObserver.NONE), observer, (part, hidden, scratch) -> {
            model.runBlock(weights, hidden, part.geometry(), scratch, observer);
            if (keep) {
                keep(hidden, part);
            }
        });
    }

    /** Hands the model's output over all batches to the consumer; rows are counted on from batch to batch. */
    public void finish(HeadWeights weights, LinearObserver observer, Transformer.OutputConsumer consumer) {
        eachPart(false, observer, (part, hidden, scratch) -> {
            long before =
                    begins.get(part.batch()) + part.first() * part.geometry().length();
            model.finish(weights, hidden, scratch, observer, (first, rows) -> consumer.rows(before + first, rows));
        });
    }

    /** Frees the states; calling it again does nothing. */
    @Override
    public void close() {
        try (scope) {
            if (arena.scope().isAlive()) {
                try (arena) {
                    close(first);
                    arrive();
                }
            }
        }
    }
}

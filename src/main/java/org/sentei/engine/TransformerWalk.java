package org.sentei.engine;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.method.AttentionLoss;
import org.sentei.model.AttentionPair;
import org.sentei.model.BatchGeometry;
import org.sentei.model.BlockWeights;
import org.sentei.model.Edit;
import org.sentei.model.HeadWeights;
import org.sentei.model.HiddenStates;
import org.sentei.model.LinearObserver;
import org.sentei.model.LinearWeights;
import org.sentei.model.NormWeights;
import org.sentei.model.Site;
import org.sentei.model.TensorSource;
import org.sentei.model.Transformer;
import org.sentei.model.Uploads;

/**
 * Block after block of a transformer, hidden states parked on the host in between. What follows the last block is a group of
 * its own when its site is targeted.
 */
final class TransformerWalk implements Walk {
    private final Transformer model;
    private final Scope scope;
    private final boolean sequential;
    private final int blocks;
    private final boolean withHead;
    private final Calibration calibration;
    private final HiddenStates fitting;
    private final HiddenStates heldOut;
    private final WeightStream stream;
    private int next;

    /**
     * Embeds the data.
     *
     * @param targeted sites that will be edited: the walk ends behind the last of them
     * @param sequential whether a group sees what the groups before it committed
     */
    TransformerWalk(
            Transformer model,
            TensorSource tensors,
            List<Site> targeted,
            Calibration calibration,
            boolean sequential,
            Scope parent) {
        this.model = model;
        this.calibration = calibration;
        this.sequential = sequential;
        this.withHead = targeted.stream().anyMatch(site -> site.role() == Site.Role.HEAD);
        this.blocks = withHead
                ? model.blocks()
                : 1 + targeted.stream().mapToInt(Site::block).max().orElse(-1);
        this.scope = parent.child();
        this.stream = new WeightStream(
                IntStream.range(0, groups())
                        .mapToObj(group -> group < blocks ? model.tensors(group) : model.headTensors())
                        .toList(),
                tensors,
                parent.backend());
        try {
            this.fitting = new HiddenStates(model, calibration.fitting().tokens(), scope);
            try {
                this.heldOut = new HiddenStates(model, calibration.heldOut().tokens(), scope);
            } catch (RuntimeException e) {
                this.fitting.close();
                throw e;
            }
        } catch (RuntimeException e) {
            scope.close();
            throw e;
        }
    }

    @Override
    public int groups() {
        return blocks + (withHead ? 1 : 0);
    }

    @Override
    public Optional<Group> next() {
        if (next == groups()) {
            return Optional.empty();
        }
        int index = next++;
        Group group;
        try (Uploads uploads = stream.of(index)) {
            group = index < blocks ? new Block(index, uploads) : new Head(uploads);
        }
        return stream.beginBehind(index, group);
    }

    @Override
    public boolean halved() {
        return fitting.isHalved() || heldOut.isHalved();
    }

    @Override
    public void close() {
        try (scope;
                fitting;
                heldOut) {
            stream.close();
        }
    }

    /** Passes activations on, with the number of their batch. */
    private class Every implements LinearObserver {
        private final InputObserver observer;
        private final boolean held;
        private final int first;
        private int batch;

        Every(InputObserver observer, boolean held) {
            this.observer = observer;
            this.held = held;
            this.first = (held ? calibration.heldOut() : calibration.fitting()).first();
        }

        @Override
        public void batch(int index) {
            batch = first + index;
        }

        @Override
        public void linear(LinearWeights linear, View input) {
            observer.input(linear.site().input(), input, held, batch);
        }
    }

    /** Passes every distinct activation on once: layers of a block that read the same one follow each other. */
    private final class Once extends Every {
        private View last;

        Once(InputObserver observer, boolean held) {
            super(observer, held);
        }

        @Override
        public void linear(LinearWeights linear, View input) {
            if (!input.equals(last)) {
                last = input;
                super.linear(linear, input);
            }
        }
    }

    private final class Block implements Group {
        private final Scope blockScope = scope.child();
        private final BlockWeights weights;
        private final Map<Site, LinearWeights> linears;

        Block(int index, Uploads uploads) {
            try {
                weights = model.load(index, uploads, blockScope);
            } catch (RuntimeException e) {
                blockScope.close();
                throw e;
            }
            linears = weights.linears().values().stream()
                    .collect(Collectors.toMap(LinearWeights::site, Function.identity()));
        }

        @Override
        public List<Site> sites() {
            return model.spec().blocks().get(weights.index()).sites();
        }

        @Override
        public LinearWeights weights(Site site) {
            return linears.get(site);
        }

        @Override
        public void observe(InputObserver observer) {
            fitting.observe(weights, new Once(observer, false));
            heldOut.observe(weights, new Once(observer, true));
        }

        @Override
        public AttentionLoss.Layer attention(AttentionPair pair, long length, Scope owner) {
            BatchGeometry.Angles angles = model.angles(Math.toIntExact(length), owner);
            return new AttentionLoss.Layer(
                    normed(pair.query(), weights.queryNorm()),
                    normed(pair.key(), weights.keyNorm()),
                    angles == null ? null : angles.cosine(),
                    angles == null ? null : angles.sine(),
                    pair.geometry(length));
        }

        private AttentionLoss.Projection normed(Site site, NormWeights norm) {
            return projection(
                    site, norm == null ? null : norm.gain(), model.spec().norm().epsilon());
        }

        @Override
        public boolean halveBatches() {
            boolean fittingHalved = fitting.halve();
            return heldOut.halve() || fittingHalved;
        }

        @Override
        public void commit(List<Edit> edits) {
            if (weights.index() == groups() - 1) {
                return;
            }
            try (Scope edited = blockScope.child()) {
                List<LinearWeights> changed = new ArrayList<>();
                if (sequential) {
                    edits.forEach(edit -> changed.add(Edits.replace(edit, weights(edit.site()), edited)));
                }
                BlockWeights after = weights.with(changed);
                fitting.advance(after, LinearObserver.NONE);
                heldOut.advance(after, LinearObserver.NONE);
            }
        }

        @Override
        public void close() {
            blockScope.close();
        }
    }

    private final class Head implements Group {
        private final Scope headScope = scope.child();
        private final HeadWeights weights;

        Head(Uploads uploads) {
            try {
                weights = model.loadHead(uploads, headScope);
            } catch (RuntimeException e) {
                headScope.close();
                throw e;
            }
        }

        @Override
        public List<Site> sites() {
            return List.of(weights.linear().site());
        }

        @Override
        public LinearWeights weights(Site site) {
            return weights.linear();
        }

        @Override
        public void observe(InputObserver observer) {
            fitting.finish(weights, new Every(observer, false), (first, rows) -> {});
            heldOut.finish(weights, new Every(observer, true), (first, rows) -> {});
        }

        @Override
        public void commit(List<Edit> edits) {}

        @Override
        public void close() {
            headScope.close();
        }
    }
}

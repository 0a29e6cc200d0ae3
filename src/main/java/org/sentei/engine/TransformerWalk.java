package org.sentei.engine;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.model.BlockWeights;
import org.sentei.model.Edit;
import org.sentei.model.HeadWeights;
import org.sentei.model.HiddenStates;
import org.sentei.model.LinearObserver;
import org.sentei.model.LinearWeights;
import org.sentei.model.Site;
import org.sentei.model.TokenBatch;
import org.sentei.model.Transformer;

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
    private final HiddenStates fitting;
    private final HiddenStates heldOut;
    private int next;

    /**
     * Embeds the data.
     *
     * @param targeted sites that will be edited: the walk ends behind the last of them
     * @param fitting batches that statistics come from
     * @param heldOut batches that only judge, may be empty; statistics include them
     * @param sequential whether a group sees what the groups before it committed
     */
    TransformerWalk(
            Transformer model,
            List<Site> targeted,
            List<TokenBatch> fitting,
            List<TokenBatch> heldOut,
            boolean sequential,
            Scope parent) {
        this.model = model;
        this.sequential = sequential;
        this.withHead = targeted.stream().anyMatch(site -> site.role() == Site.Role.HEAD);
        this.blocks = withHead
                ? model.blocks()
                : 1 + targeted.stream().mapToInt(Site::block).max().orElse(-1);
        this.scope = parent.child();
        try {
            this.fitting = new HiddenStates(model, fitting, scope);
            try {
                this.heldOut = new HiddenStates(model, heldOut, scope);
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
        int index = next++;
        if (index < blocks) {
            return Optional.of(new Block(index));
        }
        return index == blocks && withHead ? Optional.of(new Head()) : Optional.empty();
    }

    @Override
    public void close() {
        try (scope;
                fitting) {
            heldOut.close();
        }
    }

    /** Passes every distinct activation on once: layers that read the same one follow each other. */
    private static LinearObserver once(InputObserver observer, boolean heldOut) {
        View[] last = new View[1];
        return (linear, input) -> {
            if (!input.equals(last[0])) {
                last[0] = input;
                observer.input(linear.site().input(), input, heldOut);
            }
        };
    }

    private final class Block implements Group {
        private final Scope blockScope = scope.child();
        private final BlockWeights weights;
        private final Map<Site, LinearWeights> linears;

        Block(int index) {
            try {
                weights = model.load(index, blockScope);
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
            fitting.observe(weights, once(observer, false));
            heldOut.observe(weights, once(observer, true));
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

        Head() {
            try {
                weights = model.loadHead(headScope);
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
            fitting.finish(weights, every(observer, false), (first, rows) -> {});
            heldOut.finish(weights, every(observer, true), (first, rows) -> {});
        }

        private LinearObserver every(InputObserver observer, boolean held) {
            return (linear, input) -> observer.input(linear.site().input(), input, held);
        }

        @Override
        public void commit(List<Edit> edits) {}

        @Override
        public void close() {
            headScope.close();
        }
    }
}

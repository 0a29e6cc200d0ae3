package org.sentei.method;

import java.lang.reflect.Proxy;
import java.util.List;
import java.util.Optional;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Op;
import org.sentei.kernel.Scope;
import org.sentei.kernel.Sequence;
import org.sentei.method.AttentionDescent.Found;
import org.sentei.method.AttentionDescent.Rule;
import org.sentei.method.AttentionDescent.Settings;
import org.sentei.method.AttentionDescent.Side;
import org.sentei.method.AttentionDescent.State;

/** A descent by straight-through on a small layer, and backends that look at how it runs. */
public final class ToyDescent {
    private ToyDescent() {}

    /**
     * Twelve steps, by two windows out of five at a time, with a look behind the fifth, the tenth and the last.
     *
     * @param normed whether a norm stands between weights and softmax
     */
    public static Found run(boolean normed, Backend backend) {
        AttentionLayers.Form form = new AttentionLayers.Form(4, 2, 6, 16, true, 0, true, true, normed);
        try (Scope scope = new Scope(backend)) {
            AttentionLoss.Layer layer = AttentionLayers.layer(form, 0.7, scope);
            AttentionLoss fitting = new AttentionLoss(layer, AttentionLayers.inputs(form, 5, 1, scope), 1, scope);
            AttentionLoss judging = new AttentionLoss(layer, AttentionLayers.inputs(form, 3, 2, scope), 2, scope);
            AttentionLoss.Saliency saliency = fitting.saliency(5, 1);
            Side query = new Side(
                    layer.query().weight(), new Selector.Budget.Layer(144), saliency.query(), saliency.query());
            Side key = new Side(layer.key().weight(), new Selector.Budget.Row(5), saliency.key(), saliency.key());
            return new AttentionDescent(
                            fitting,
                            judging,
                            Optional.of(query),
                            Optional.of(key),
                            new Settings(Rule.STRAIGHT_THROUGH, 12, 0.02, 2, 0.2),
                            scope)
                    .run(Optional.empty(), new AttentionDescent.Listener() {
                        @Override
                        public void step(int step, double error) {}

                        @Override
                        public void save(State state) {}
                    });
        }
    }

    /** A backend that runs the ops of prepared sequences one by one. */
    public static Backend oneByOne(Backend backend) {
        record Loop(List<Op> ops) implements Sequence {
            @Override
            public void close() {}
        }
        return (Backend) Proxy.newProxyInstance(
                Backend.class.getClassLoader(), new Class<?>[] {Backend.class}, (_, method, arguments) -> {
                    if (method.getName().equals("prepare")) {
                        return new Loop(((List<?>) arguments[0])
                                .stream().map(Op.class::cast).toList());
                    }
                    if (arguments != null && arguments[0] instanceof Loop loop) {
                        loop.ops.forEach(backend::run);
                        return null;
                    }
                    return method.invoke(backend, arguments);
                });
    }

    /** A backend that lets somebody make the calls which run prepared sequences. */
    public static Backend watched(Backend backend, Watcher watcher) {
        return (Backend) Proxy.newProxyInstance(
                Backend.class.getClassLoader(), new Class<?>[] {Backend.class}, (_, method, arguments) -> {
                    if (arguments != null && arguments[0] instanceof Sequence sequence) {
                        watcher.run(sequence, () -> backend.run(sequence, (int) arguments[1]));
                        return null;
                    }
                    return method.invoke(backend, arguments);
                });
    }

    /** Makes the calls that run a sequence. */
    @FunctionalInterface
    public interface Watcher {
        /** Makes the call. */
        void run(Sequence sequence, Runnable call) throws Throwable;
    }
}

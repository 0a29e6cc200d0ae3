package org.sentei.model;

import java.lang.foreign.MemorySegment;
import java.util.List;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Op;
import org.sentei.kernel.Scope;
import org.sentei.kernel.Sequence;
import org.sentei.kernel.View;

/** A trained graph network on a backend, ready to run. Close it before the scope that its memory belongs to. */
public abstract sealed class GraphInference implements AutoCloseable permits NodeInference, SkeletonInference {
    private final Backend backend;
    private final Sequence sequence;

    GraphInference(Scope scope, List<Op> ops) {
        backend = scope.backend();
        sequence = backend.prepare(ops);
    }

    /** Computes the scores of the inputs that lie on the backend, and leaves them there. */
    public final void run() {
        backend.run(sequence, 1);
    }

    final float[] read(View view) {
        float[] values = new float[Math.toIntExact(view.elements())];
        backend.copyOut(view, MemorySegment.ofArray(values));
        return values;
    }

    static View filled(Scope scope, long rows, long cols, float[] values) {
        View view = scope.matrix(rows, cols);
        fill(scope, view, values);
        return view;
    }

    static void fill(Scope scope, View view, float[] values) {
        scope.backend().copyIn(MemorySegment.ofArray(values), view);
    }

    @Override
    public final void close() {
        sequence.close();
    }
}

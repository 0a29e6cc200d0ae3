package org.sentei.engine;

import java.lang.foreign.Arena;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Supplier;
import org.sentei.format.OnnxFile;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.model.Edit;
import org.sentei.model.Site;
import org.sentei.model.Uploads;
import org.sentei.model.onnx.OnnxEncoder;
import org.sentei.model.onnx.OnnxSession;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * An ONNX graph in ONNX Runtime, the inputs of its sites tapped and streamed to the device batch by batch: all sites in one
 * dense pass, or block by block, each in a graph that holds what the blocks before it committed.
 */
final class OnnxWalk implements Walk {
    private final OnnxFile file;
    private final int threads;
    private final Supplier<Calibration> calibration;
    private final boolean sequential;
    private final Scope scope;
    private final List<List<Site>> groups;
    private final Iterator<List<Site>> remaining;
    private final List<Edit> committed = new ArrayList<>();

    OnnxWalk(
            OnnxFile file,
            int threads,
            List<Site> targeted,
            Supplier<Calibration> calibration,
            boolean sequential,
            Scope scope) {
        this.file = file;
        this.threads = threads;
        this.calibration = calibration;
        this.sequential = sequential;
        this.scope = scope;
        this.groups = sequential ? StillWalk.byBlock(targeted) : List.of(targeted);
        this.remaining = groups.iterator();
    }

    @Override
    public int groups() {
        return groups.size();
    }

    @Override
    public Optional<Group> next() {
        return remaining.hasNext() ? Optional.of(new Tapped(remaining.next())) : Optional.empty();
    }

    @Override
    public void close() {}

    private final class Tapped extends GroupWeights {
        private final List<String> values;
        /** Where a batch of each value goes on the device; as many rows as the largest batch has. */
        private final Map<String, View> batches = new HashMap<>();

        /** Of the session's graph. */
        private final Arena arena = Arena.ofConfined();

        private OnnxSession session;
        private OnnxEncoder encoder;

        Tapped(List<Site> sites) {
            super(sites, file, Uploads.none(), OnnxWalk.this.scope);
            values = sites.stream().map(Site::input).distinct().toList();
        }

        @Override
        public void observe(InputObserver observer) {
            if (session == null) {
                session = OnnxSession.open(file.tapped(values, committed, arena), threads);
                encoder = new OnnxEncoder(session);
            }
            Calibration data = calibration.get();
            observe(data.fitting(), observer, false);
            observe(data.heldOut(), observer, true);
        }

        private void observe(Calibration.Batches data, InputObserver observer, boolean heldOut) {
            for (int batch = 0; batch < data.count(); batch++) {
                int number = data.first() + batch;
                List<int[]> windows = data.batches().get(batch);
                encoder.run(windows, windows.size(), values, tapped -> {
                    for (Map.Entry<String, Tensor> value : tapped.rows().entrySet()) {
                        View view = rows(value.getKey(), value.getValue().shape());
                        scope().backend().copyIn(value.getValue().data(), view);
                        observer.input(value.getKey(), view, heldOut, number);
                        scope().backend().sync();
                    }
                });
            }
        }

        private View rows(String value, Shape shape) {
            long rows = shape.dimension(0);
            View batch = batches.get(value);
            if (batch == null || batch.rows() < rows) {
                batch = scope().matrix(rows, shape.dimension(1));
                batches.put(value, batch);
            }
            return batch.rows(0, rows);
        }

        @Override
        public void commit(List<Edit> edits) {
            if (sequential) {
                committed.addAll(edits);
            }
        }

        @Override
        public void close() {
            try (arena) {
                if (session != null) {
                    session.close();
                }
            } finally {
                super.close();
            }
        }
    }
}

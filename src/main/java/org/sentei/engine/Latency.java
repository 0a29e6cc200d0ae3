package org.sentei.engine;

import java.lang.foreign.Arena;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.sentei.format.OnnxFile;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.onnx.OnnxSession;
import org.sentei.tensor.Tensor;

/**
 * How long graphs take in ONNX Runtime for one sample: rounds that alternate between them, so that whatever slows the machine slows
 * all, and the median of the rounds.
 */
final class Latency {
    /** Seconds that all rounds take about, within limits. */
    private static final double SECONDS = 1;

    private static final int LEAST_ROUNDS = 31;
    private static final int MOST_ROUNDS = 201;
    /**
     * Seconds of a graph in a round, of so many runs: far less than a busy system lets a process go on at a time, so that what else runs
     * meets all graphs alike.
     */
    private static final double ROUND_SECONDS = 3e-4;

    private static final int MOST_RUNS = 50;

    /** By graph and round. */
    private final double[][] seconds;

    private Latency(double[][] seconds) {
        this.seconds = seconds;
    }

    /** Median seconds of a run of a graph. */
    double median(int graph) {
        return Arrays.stream(seconds[graph]).sorted().toArray()[seconds[graph].length / 2];
    }

    /** Share of the rounds in which a graph was faster than another. */
    double wins(int graph, int other) {
        int wins = 0;
        for (int round = 0; round < seconds[graph].length; round++) {
            wins += seconds[graph][round] < seconds[other][round] ? 1 : 0;
        }
        return (double) wins / seconds[graph].length;
    }

    /** A graph that is ready, and what it is fed. */
    private record Ready(OnnxSession session, List<Tensor> inputs, Map<String, Tensor> outputs) {
        double seconds(int runs) {
            long started = System.nanoTime();
            for (int run = 0; run < runs; run++) {
                session.rerun(inputs, outputs);
            }
            return (System.nanoTime() - started) * 1e-9 / runs;
        }
    }

    /**
     * Times graphs.
     *
     * @param inputs a sample; a graph may need fewer of them
     */
    static Latency of(OnnxFile file, List<LayerGraph> graphs, List<Tensor> inputs, int threads) {
        List<OnnxSession> sessions = new ArrayList<>();
        try (Arena arena = Arena.ofConfined()) {
            try {
                List<Ready> ready = new ArrayList<>();
                for (LayerGraph graph : graphs) {
                    List<String> outputs =
                            graph.outputs().stream().map(LayerGraph.Port::name).toList();
                    OnnxSession session = OnnxSession.openPrepacked(file.runnable(graph, outputs, arena), threads);
                    sessions.add(session);
                    List<String> wanted = session.inputs().stream()
                            .map(OnnxSession.Port::name)
                            .toList();
                    List<Tensor> fed = inputs.stream()
                            .filter(input -> wanted.contains(input.name()))
                            .toList();
                    ready.add(new Ready(session, fed, session.run(fed, outputs)));
                }
                return new Latency(rounds(ready));
            } finally {
                sessions.forEach(OnnxSession::close);
            }
        }
    }

    private static double[][] rounds(List<Ready> ready) {
        double[] once = new double[ready.size()];
        for (int i = 0; i < once.length; i++) {
            ready.get(i).seconds(2);
            once[i] = ready.get(i).seconds(3);
        }
        double sum = Arrays.stream(once).sum();
        int runs = (int) Math.clamp(ROUND_SECONDS * once.length / sum, 1, MOST_RUNS);
        int rounds = (int) Math.clamp(SECONDS / (runs * sum), LEAST_ROUNDS, MOST_ROUNDS);
        double[][] seconds = new double[once.length][rounds];
        for (int round = 0; round < rounds; round++) {
            for (int i = 0; i < once.length; i++) {
                seconds[i][round] = ready.get(i).seconds(runs);
            }
        }
        return seconds;
    }
}

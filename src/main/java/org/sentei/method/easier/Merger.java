package org.sentei.method.easier;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import org.sentei.method.easier.Merge.Border;
import org.sentei.method.easier.Merge.Candidate;
import org.sentei.model.graph.LayerGraph;

/**
 * Merges what is measured to be faster merged: of all candidates in a graph the one that saves most time is made, until none saves
 * any. Every merge is verified on the whole model, which must give the same and must not get slower: a runtime may know another way
 * to be fast with the layers as they were.
 */
public final class Merger {
    /** A merged layer with more than so many times the multiplications is not even timed. */
    public static final double MOST_WORK = 4;
    /** What a merged layer must be faster by, so that noise does not decide. */
    public static final double LEAST_GAIN = 1.03;
    /** Share of the rounds in which it must be faster. */
    public static final double LEAST_WINS = 2.0 / 3;
    /** How much slower the whole model may seem where it is slower in {@link #LEAST_WINS} of the rounds. */
    public static final double MOST_LOSS = 0.98;
    /** Difference that a merge may make to any output, relative to the largest. */
    public static final double TOLERANCE = 1e-4;

    private final Trial trial;
    private final Merge.Terms terms;
    private final Map<String, Times> times = new HashMap<>();
    private final Map<String, Decision> decisions = new LinkedHashMap<>();
    private final LayerGraph given;
    private LayerGraph graph;
    private LayerGraph reference;

    /** Runs graphs on a device. */
    public interface Trial {
        /** How long a run takes of each of two graphs of one input that give the same, under the same conditions. */
        Times time(Merge.Pieces pieces);

        /** How long a run takes of each of two models. */
        Times timeWhole(LayerGraph separate, LayerGraph merged);

        /** The largest difference between the outputs of two models on real inputs, relative to the largest output. */
        double difference(LayerGraph changed, LayerGraph reference);
    }

    /**
     * Seconds of a run, medians over rounds that alternate between the two.
     *
     * @param wins share of the rounds in which the merged one is faster
     */
    public record Times(double separate, double merged, double wins) {
        /** How many times as fast the merged layer is. */
        public double gain() {
            return separate / merged;
        }
    }

    /**
     * What became of a candidate.
     *
     * @param layers their names
     * @param border null where none was found
     * @param separate multiplications of the separate layers for a sample
     * @param merged multiplications of the merged one
     * @param times empty where it was not timed
     * @param isMade whether the model has it
     * @param reason in words
     */
    public record Decision(
            String layers,
            Border border,
            long separate,
            long merged,
            Optional<Times> times,
            boolean isMade,
            String reason) {}

    /** The merged model, and what became of every candidate. */
    public record Result(LayerGraph graph, List<Decision> decisions) {
        /** Copies the list. */
        public Result {
            decisions = List.copyOf(decisions);
        }
    }

    private Merger(LayerGraph graph, Merge.Terms terms, Trial trial) {
        this.given = graph;
        this.graph = graph;
        this.reference = graph;
        this.terms = terms;
        this.trial = trial;
    }

    /** Merges what pays. */
    public static Result run(LayerGraph graph, Merge.Terms terms, Trial trial) {
        Merger merger = new Merger(graph, terms, trial);
        while (merger.mergeOne()) {
            // until nothing pays
        }
        return new Result(merger.graph, new ArrayList<>(merger.decisions.values()));
    }

    /** What a candidate is, whichever graph it is found in. */
    private static String key(Candidate candidate) {
        return candidate.name() + " " + candidate.border() + " " + candidate.separate() + " " + candidate.merged();
    }

    private boolean mergeOne() {
        Merge.Proposals proposals = Merge.propose(graph, terms);
        if (graph == given) { // later ones are about layers of our own making too
            proposals
                    .refused()
                    .forEach((name, reason) -> decisions.putIfAbsent(
                            name, new Decision(name, null, 0, 0, Optional.empty(), false, reason)));
        }
        Candidate best = null;
        double saved = 0;
        for (Candidate candidate : proposals.candidates()) {
            String key = key(candidate);
            Decision known = decisions.get(key);
            if (known == null) {
                known = judge(candidate);
                decisions.put(key, known);
            }
            Times measured = times.get(key);
            if (measured != null && measured.separate() - measured.merged() > saved) {
                best = candidate;
                saved = measured.separate() - measured.merged();
            }
        }
        if (best == null) {
            return false;
        }
        make(best);
        return true;
    }

    /** Times a candidate; those that pay are in {@link #times} from then on. */
    private Decision judge(Candidate candidate) {
        if (candidate.merged() > MOST_WORK * candidate.separate()) {
            return decision(
                    candidate,
                    Optional.empty(),
                    false,
                    String.format(
                            Locale.ROOT,
                            "%.1f times the multiplications; not timed beyond %.0f",
                            (double) candidate.merged() / candidate.separate(),
                            MOST_WORK));
        }
        Times measured = trial.time(candidate.built().pieces());
        if (!(measured.gain() >= LEAST_GAIN && measured.wins() >= LEAST_WINS)) {
            return decision(
                    candidate,
                    Optional.of(measured),
                    false,
                    String.format(
                            Locale.ROOT,
                            "%.2f times as fast, faster in %.0f %% of the rounds; a merge must gain %.2f in %.0f %%",
                            measured.gain(),
                            100 * measured.wins(),
                            LEAST_GAIN,
                            100 * LEAST_WINS));
        }
        times.put(key(candidate), measured);
        return decision(candidate, Optional.of(measured), false, "another merge of these layers saves more");
    }

    private static Decision decision(Candidate candidate, Optional<Times> times, boolean isMade, String reason) {
        return new Decision(
                candidate.name(), candidate.border(), candidate.separate(), candidate.merged(), times, isMade, reason);
    }

    private void make(Candidate candidate) {
        String key = key(candidate);
        Times measured = times.remove(key);
        Merge.Built built = candidate.built();
        boolean moves = candidate.border() == Border.PAD_FIRST;
        double difference = trial.difference(built.graph(), moves ? built.reference() : reference);
        String fast = String.format(
                Locale.ROOT, "%.2f times as fast; outputs differ by %.1e of the largest", measured.gain(), difference);
        if (!(difference <= TOLERANCE)) {
            decisions.put(key, decision(candidate, Optional.of(measured), false, fast + ", beyond " + TOLERANCE));
            return;
        }
        Times whole = trial.timeWhole(graph, built.graph());
        boolean pays = whole.gain() >= MOST_LOSS || whole.wins() > 1 - LEAST_WINS;
        decisions.put(
                key,
                decision(
                        candidate,
                        Optional.of(measured),
                        pays,
                        fast + String.format(Locale.ROOT, ", the whole model %.2f times as fast", whole.gain())));
        if (pays) {
            graph = built.graph();
            reference = moves ? built.reference() : reference;
        }
    }
}

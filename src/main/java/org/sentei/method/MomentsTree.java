package org.sentei.method;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.TreeMap;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;

/**
 * Moments of numbered batches, merged along one fixed binary tree, so that the total has the same bits whoever collected
 * which batches and in whatever order they come together.
 *
 * <p>A node of level L covers 2^L batches from a multiple of 2^L on. Two sisters become their parent as soon as both are
 * there, the left one merged with the right one; what remains in the end is merged from right to left. So a run of n batches
 * keeps at most about 2 log2 n nodes.
 */
public final class MomentsTree {
    private static final int MOST_LEVELS = 24;

    private final NavigableMap<Integer, Covered> nodes = new TreeMap<>();

    /** Starts with no batches. */
    public MomentsTree() {}

    /**
     * Which batches some moments are of: {@code 2^level} of them from number {@code first} on.
     *
     * @param first a multiple of {@code 2^level}
     */
    public record Node(int first, int level) {
        /** Refuses what is no node of the tree with an {@link IllegalArgumentException}. */
        public Node {
            if (level < 0
                    || level > MOST_LEVELS
                    || first < 0
                    || first >= 1 << MOST_LEVELS
                    || first % (1 << level) != 0) {
                throw new IllegalArgumentException(
                        "there is no node of level " + level + " that begins at batch " + first);
            }
        }

        /** The number behind its last batch. */
        public int end() {
            return first + (1 << level);
        }
    }

    private record Covered(int level, Moments moments) {}

    /**
     * Adds what another has collected.
     *
     * @throws IllegalArgumentException when some of its batches are here already
     */
    public void add(Node node, Moments moments) {
        Map.Entry<Integer, Covered> before = nodes.lowerEntry(node.end());
        if (before != null && new Node(before.getKey(), before.getValue().level()).end() > node.first()) {
            throw new IllegalArgumentException("batches from number " + node.first() + " on are there twice");
        }
        int first = node.first();
        Covered covered = new Covered(node.level(), moments);
        while (true) {
            int other = first ^ (1 << covered.level());
            Covered sister = nodes.get(other);
            if (sister == null || sister.level() != covered.level()) {
                break;
            }
            nodes.remove(other);
            Moments left = first < other ? covered.moments() : sister.moments();
            Moments right = first < other ? sister.moments() : covered.moments();
            covered = new Covered(covered.level() + 1, left.merge(right));
            first = Math.min(first, other);
        }
        nodes.put(first, covered);
    }

    /** What is here, by the batches that it is of, in their order. */
    public List<Map.Entry<Node, Moments>> nodes() {
        return nodes.entrySet().stream()
                .map(entry -> Map.entry(
                        new Node(entry.getKey(), entry.getValue().level()),
                        entry.getValue().moments()))
                .toList();
    }

    /** How many batches it is of. */
    public int batches() {
        return nodes.values().stream().mapToInt(covered -> 1 << covered.level()).sum();
    }

    /** Moments of all that is here, which has {@code cols} columns. */
    public Moments total(int cols) {
        Moments total = Moments.none(cols);
        for (Covered covered : nodes.descendingMap().values()) {
            total = covered.moments().merge(total);
        }
        return total;
    }

    /** Collects batches on a backend, some at a time, so that the device need not wait for the host at each. */
    public static final class Collector {
        private static final int BATCHES_AT_ONCE = 8;

        private final Scope scope;
        private final long cols;
        private final MomentsTree tree = new MomentsTree();
        private final List<Moments.Collector> slots = new ArrayList<>();
        /** Numbers of the batches in the first slots. */
        private final List<Integer> open = new ArrayList<>();

        /** Starts with no rows; its memory belongs to the scope. */
        public Collector(Scope scope, long cols) {
            this.scope = scope;
            this.cols = cols;
        }

        /**
         * Takes rows of a batch; all rows of one batch come before those of another.
         *
         * @param x F32 rows x cols
         */
        public void add(int batch, View x) {
            if (open.isEmpty() || open.getLast() != batch) {
                if (open.size() == BATCHES_AT_ONCE) {
                    drain();
                }
                if (open.size() == slots.size()) {
                    slots.add(new Moments.Collector(scope, cols));
                } else {
                    slots.get(open.size()).clear();
                }
                open.add(batch);
            }
            slots.get(open.size() - 1).add(x);
        }

        /** What has been collected so far. */
        public MomentsTree tree() {
            drain();
            return tree;
        }

        private void drain() {
            for (int i = 0; i < open.size(); i++) {
                tree.add(new Node(open.get(i), 0), slots.get(i).moments());
            }
            open.clear();
        }
    }
}

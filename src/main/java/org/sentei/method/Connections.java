package org.sentei.method;

import java.util.Arrays;
import java.util.Comparator;
import java.util.stream.IntStream;
import org.sentei.model.GraphNetwork;
import org.sentei.tensor.BitMask;

/**
 * Which weights of a network can matter: those on a way from its input to its output along kept weights, accessible and
 * co-accessible (2203.13616, 2306.17590). The others dangle: what they read is always 0, biases aside, or nobody reads what they
 * write.
 *
 * <p>Masks run over all prunable weights in the network's order and mark what is pruned.
 */
public final class Connections {
    private final GraphNetwork network;

    /** Those of a network. */
    public Connections(GraphNetwork network) {
        this.network = network;
    }

    /** Kept weights that dangle. */
    public long dangling(BitMask pruned) {
        boolean[] kept = new boolean[(int) pruned.cols()];
        for (int i = 0; i < kept.length; i++) {
            kept[i] = !pruned.get(0, i);
        }
        return count(kept) - count(connected(kept));
    }

    /**
     * Prunes exactly so many weights that the largest remain of which none dangles: weights of less magnitude stay in place of
     * larger ones that would. Where the last few of an exact number cannot all be connected, they dangle.
     *
     * @param latents one a prunable weight
     * @param prune from 0 to their number
     */
    public BitMask smallest(float[] latents, long prune) {
        int[] order = IntStream.range(0, latents.length)
                .boxed()
                .sorted(Comparator.<Integer>comparingDouble(i -> -Math.abs(latents[i]))
                        .thenComparing(Comparator.reverseOrder()))
                .mapToInt(Integer::intValue)
                .toArray();
        long keep = latents.length - prune;
        int low = (int) keep;
        int high = latents.length;
        // More weights never disconnect any: the first number of largest ones that leaves enough is found by halving.
        while (low < high) {
            int middle = (low + high) >>> 1;
            if (count(connected(largest(order, middle))) >= keep) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        boolean[] kept = connected(largest(order, low));
        trim(kept, order, keep, true);
        trim(kept, order, keep, false);
        BitMask mask = BitMask.none(1, latents.length);
        for (int i = 0; i < kept.length; i++) {
            if (!kept[i]) {
                mask.set(0, i);
            }
        }
        return mask;
    }

    /** Drops the smallest as long as there are too many; if careful, only those without which enough stay connected. */
    private void trim(boolean[] kept, int[] order, long keep, boolean careful) {
        long size = count(kept);
        for (int rank = order.length - 1; rank >= 0 && size > keep; rank--) {
            if (!kept[order[rank]]) {
                continue;
            }
            kept[order[rank]] = false;
            if (!careful) {
                size--;
                continue;
            }
            boolean[] rest = connected(kept);
            long left = count(rest);
            if (left >= keep) {
                System.arraycopy(rest, 0, kept, 0, kept.length);
                size = left;
            } else {
                kept[order[rank]] = true;
            }
        }
    }

    private static boolean[] largest(int[] order, int count) {
        boolean[] kept = new boolean[order.length];
        for (int rank = 0; rank < count; rank++) {
            kept[order[rank]] = true;
        }
        return kept;
    }

    private static long count(boolean[] flags) {
        long count = 0;
        for (boolean flag : flags) {
            count += flag ? 1 : 0;
        }
        return count;
    }

    /** Those of the kept weights that lie on a way. */
    private boolean[] connected(boolean[] kept) {
        return switch (network) {
            case GraphNetwork.Nodes nodes -> connected(nodes, kept);
            case GraphNetwork.Skeletons skeletons -> connected(skeletons, kept);
        };
    }

    private static boolean[] connected(GraphNetwork.Nodes network, boolean[] kept) {
        Matrix first = new Matrix(kept, 0, network.features(), network.hidden());
        Matrix second = new Matrix(kept, first.end(), network.hidden(), network.classes());
        boolean[] written = first.written(all(network.features()));
        boolean[] read = second.read(all(network.classes()));
        boolean[] connected = new boolean[kept.length];
        first.mark(connected, all(network.features()), read);
        second.mark(connected, written, all(network.classes()));
        return connected;
    }

    private static boolean[] connected(GraphNetwork.Skeletons network, boolean[] kept) {
        int joints = network.joints();
        int filters = network.filters();
        Matrix encoder = new Matrix(kept, 0, network.signal(), network.channels());
        boolean[] channels = encoder.written(all(network.signal()));
        Matrix[] adjacencies = new Matrix[network.heads()];
        Matrix[] weights = new Matrix[network.heads()];
        int begin = encoder.end();
        for (int k = 0; k < network.heads(); k++) {
            adjacencies[k] = new Matrix(kept, begin, joints, joints);
            weights[k] = new Matrix(kept, adjacencies[k].end(), network.channels(), filters);
            begin = weights[k].end();
        }
        Matrix classifier = new Matrix(kept, begin, joints * filters, network.classes());
        boolean[] read = classifier.read(all(network.classes()));
        boolean[] written = new boolean[joints * filters];
        boolean[] channelsRead = new boolean[network.channels()];
        boolean[] connected = new boolean[kept.length];
        for (int k = 0; k < network.heads(); k++) {
            // A joint hears in this head if a row of the adjacency has any weight; all joints have the same channels.
            boolean[] hearing = adjacencies[k].read(all(joints));
            boolean[] filtered = weights[k].written(channels);
            boolean[] filtersRead = new boolean[filters];
            boolean[] heard = new boolean[joints];
            for (int j = 0; j < joints; j++) {
                for (int f = 0; f < filters; f++) {
                    int output = j * filters + f;
                    written[output] |= hearing[j] && filtered[f];
                    filtersRead[f] |= hearing[j] && read[output];
                    heard[j] |= filtered[f] && read[output];
                }
            }
            adjacencies[k].mark(connected, heard, all(joints));
            weights[k].mark(connected, channels, filtersRead);
            or(channelsRead, weights[k].read(filtersRead));
        }
        encoder.mark(connected, all(network.signal()), channelsRead);
        classifier.mark(connected, written, all(network.classes()));
        return connected;
    }

    private static void or(boolean[] into, boolean[] more) {
        for (int i = 0; i < into.length; i++) {
            into[i] |= more[i];
        }
    }

    private static boolean[] all(int count) {
        boolean[] flags = new boolean[count];
        Arrays.fill(flags, true);
        return flags;
    }

    /** The kept weights of one tensor among those of all. */
    private static final class Matrix {
        private final boolean[] kept;
        private final int begin;
        private final int rows;
        private final int cols;

        Matrix(boolean[] kept, int begin, int rows, int cols) {
            this.kept = kept;
            this.begin = begin;
            this.rows = rows;
            this.cols = cols;
        }

        int end() {
            return begin + rows * cols;
        }

        /** Columns with a weight in one of these rows. */
        boolean[] written(boolean[] ofRows) {
            boolean[] columns = new boolean[cols];
            for (int row = 0; row < rows; row++) {
                for (int col = 0; col < cols; col++) {
                    columns[col] |= ofRows[row] && kept[begin + row * cols + col];
                }
            }
            return columns;
        }

        /** Rows with a weight in one of these columns. */
        boolean[] read(boolean[] ofColumns) {
            boolean[] found = new boolean[rows];
            for (int row = 0; row < rows; row++) {
                for (int col = 0; col < cols; col++) {
                    found[row] |= ofColumns[col] && kept[begin + row * cols + col];
                }
            }
            return found;
        }

        /** Marks the weights that lie in these rows and these columns. */
        void mark(boolean[] marked, boolean[] ofRows, boolean[] ofColumns) {
            for (int row = 0; row < rows; row++) {
                for (int col = 0; col < cols; col++) {
                    int index = begin + row * cols + col;
                    marked[index] = kept[index] && ofRows[row] && ofColumns[col];
                }
            }
        }
    }
}

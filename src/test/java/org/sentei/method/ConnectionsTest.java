package org.sentei.method;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.model.GraphNetwork;
import org.sentei.tensor.BitMask;

/** Ways through networks along kept weights: by hand, and by what a weight does to the scores. */
class ConnectionsTest {
    private static final GraphNetwork.Nodes NODES = new GraphNetwork.Nodes(3, 2, 2);
    private static final GraphNetwork.Skeletons SKELETONS = new GraphNetwork.Skeletons(4, 2, 2, 3, 5, 3);

    private static BitMask keeping(int count, int... kept) {
        BitMask pruned = BitMask.none(1, count);
        for (int i = 0; i < count; i++) {
            boolean keep = false;
            for (int index : kept) {
                keep |= index == i;
            }
            if (!keep) {
                pruned.set(0, i);
            }
        }
        return pruned;
    }

    @Test
    void aWeightDanglesWhereNobodyWritesOrReads() {
        // 3 x 2 weights into the hidden channels, then 2 x 2 out of them.
        Connections nodes = new Connections(NODES);
        assertThat(nodes.dangling(keeping(10, 0, 6))).isZero();
        assertThat(nodes.dangling(keeping(10, 0, 8))).isEqualTo(2);
        assertThat(nodes.dangling(keeping(10, 0, 1, 3, 9))).isEqualTo(1);
        assertThat(nodes.dangling(keeping(10))).isZero();
    }

    private static int count(GraphNetwork network) {
        return network.parameters().stream()
                .filter(GraphNetwork.Parameter::prunable)
                .mapToInt(GraphNetwork.Parameter::count)
                .sum();
    }

    /** Scores with weights of 1 and without biases: how many ways lead from the input to each class. */
    private static double ways(boolean[] kept) {
        int signal = SKELETONS.signal();
        double total = 0;
        int begin = signal * 3;
        for (int c = 0; c < 3; c++) {
            double in = 0;
            for (int s = 0; s < signal; s++) {
                in += kept[s * 3 + c] ? 1 : 0;
            }
            for (int k = 0; k < 2; k++) {
                int adjacency = begin + k * (16 + 15);
                int weights = adjacency + 16;
                int classifier = begin + 2 * (16 + 15);
                for (int j = 0; j < 4; j++) {
                    double hears = 0;
                    for (int i = 0; i < 4; i++) {
                        hears += kept[adjacency + j * 4 + i] ? 1 : 0;
                    }
                    for (int f = 0; f < 5; f++) {
                        for (int o = 0; o < 3; o++) {
                            total += in
                                    * hears
                                    * (kept[weights + c * 5 + f] ? 1 : 0)
                                    * (kept[classifier + (j * 5 + f) * 3 + o] ? 1 : 0);
                        }
                    }
                }
            }
        }
        return total;
    }

    @ParameterizedTest
    @ValueSource(doubles = {0.1, 0.2, 0.3, 0.6})
    void exactlyTheWeightsOnNoWayDangle(double share) {
        int count = count(SKELETONS);
        SplittableRandom random = new SplittableRandom(Math.round(100 * share));
        for (int round = 0; round < 20; round++) {
            boolean[] kept = new boolean[count];
            BitMask pruned = BitMask.none(1, count);
            for (int i = 0; i < count; i++) {
                kept[i] = random.nextDouble() < share;
                if (!kept[i]) {
                    pruned.set(0, i);
                }
            }
            double all = ways(kept);
            int idle = 0;
            for (int i = 0; i < count; i++) {
                if (kept[i]) {
                    kept[i] = false;
                    idle += ways(kept) == all ? 1 : 0;
                    kept[i] = true;
                }
            }
            assertThat(new Connections(SKELETONS).dangling(pruned)).isEqualTo(idle);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 50, 100, 114, 124, 132, 136, 139, 140})
    void exactlyTheBudgetGoesAndNothingDanglesIfItNeedNot(int prune) {
        int count = count(SKELETONS);
        assertThat(count).isEqualTo(140);
        Connections connections = new Connections(SKELETONS);
        for (int seed = 0; seed < 10; seed++) {
            SplittableRandom random = new SplittableRandom(seed);
            float[] latents = new float[count];
            for (int i = 0; i < count; i++) {
                latents[i] = (float) random.nextGaussian();
            }
            BitMask mask = connections.smallest(latents, prune);
            assertThat(mask.count()).isEqualTo(prune);
            // A way takes four weights: one from the input, two in a head, one to a class.
            int keep = count - prune;
            if (keep == 0 || keep >= 4) {
                assertThat(connections.dangling(mask)).isZero();
            } else {
                assertThat(connections.dangling(mask)).isEqualTo(keep);
            }
        }
    }

    @Test
    void whatIsConnectedAlreadyIsTheLargest() {
        float[] latents = {9, 1, 2, -8, 0, 3, 7, 0.5f, 0.1f, -6};
        // The largest four are 9 (feature 0 to channel 0), -8 (1 to 1), 7 (0 to class 0), -6 (1 to class 1).
        assertThat(new Connections(NODES).smallest(latents, 6)).isEqualTo(keeping(10, 0, 3, 6, 9));
    }
}

package org.sentei.method;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.method.MomentsTree.Node;

class MomentsTreeTest {
    private static final int COLS = 3;

    private static List<Moments> batches(int count) {
        Random random = new Random(count);
        return IntStream.range(0, count)
                .mapToObj(batch -> {
                    double[] state = new double[3 * COLS];
                    for (int i = 0; i < state.length; i++) {
                        state[i] = random.nextGaussian(i < COLS ? 5 : 100, 1);
                    }
                    return Moments.of(1 + random.nextInt(50), state);
                })
                .toList();
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 7, 8, 13, 64, 100})
    void theTotalHasTheSameBitsInWhateverOrderBatchesCome(int count) {
        List<Moments> batches = batches(count);
        MomentsTree ordered = new MomentsTree();
        IntStream.range(0, count).forEach(i -> ordered.add(new Node(i, 0), batches.get(i)));
        for (int seed = 0; seed < 20; seed++) {
            List<Integer> order =
                    new ArrayList<>(IntStream.range(0, count).boxed().toList());
            Collections.shuffle(order, new Random(seed));
            MomentsTree first = new MomentsTree();
            MomentsTree second = new MomentsTree();
            for (int i = 0; i < count; i++) {
                (i % 3 == 0 ? first : second).add(new Node(order.get(i), 0), batches.get(order.get(i)));
            }
            second.nodes().forEach(node -> first.add(node.getKey(), node.getValue()));
            assertThat(first.total(COLS).state()).isEqualTo(ordered.total(COLS).state());
            assertThat(first.total(COLS).count()).isEqualTo(ordered.total(COLS).count());
            assertThat(first.batches()).isEqualTo(count);
            assertThat(first.nodes()).hasSize(Integer.bitCount(count));
        }
    }

    @Test
    void theTotalIsThatOfAPlainSequenceOfMerges() {
        List<Moments> batches = batches(29);
        MomentsTree tree = new MomentsTree();
        Moments expected = Moments.none(COLS);
        for (int i = 0; i < batches.size(); i++) {
            tree.add(new Node(i, 0), batches.get(i));
            expected = expected.merge(batches.get(i));
        }
        Moments total = tree.total(COLS);
        assertThat(total.count()).isEqualTo(expected.count());
        assertThat(total.state()).containsExactly(expected.state(), within(1e-9));
    }

    @Test
    void batchesThatAreThereAreRefused() {
        Moments any = batches(1).getFirst();
        MomentsTree tree = new MomentsTree();
        tree.add(new Node(4, 2), any);
        for (Node taken : List.of(new Node(4, 2), new Node(5, 0), new Node(6, 1), new Node(0, 3), new Node(7, 0))) {
            assertThatThrownBy(() -> tree.add(taken, any))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining("twice");
        }
        tree.add(new Node(3, 0), any);
        tree.add(new Node(8, 0), any);
        assertThat(tree.batches()).isEqualTo(6);
    }

    @Test
    void onlyNodesOfTheTreeAreNodes() {
        int[][] wrong = {{1, 1}, {-1, 0}, {0, -1}, {0, 25}, {1 << 24, 0}, {Integer.MIN_VALUE, 0}, {0, 31}};
        for (int[] node : wrong) {
            assertThatThrownBy(() -> new Node(node[0], node[1])).isInstanceOf(IllegalArgumentException.class);
        }
    }
}

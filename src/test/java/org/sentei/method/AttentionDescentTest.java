package org.sentei.method;

import static org.assertj.core.api.Assertions.assertThat;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.MaskStep;
import org.sentei.kernel.Scope;
import org.sentei.kernel.Sequence;
import org.sentei.kernel.View;
import org.sentei.method.AttentionDescent.Found;
import org.sentei.method.AttentionDescent.Judged;
import org.sentei.method.AttentionDescent.Rule;
import org.sentei.method.AttentionDescent.Settings;
import org.sentei.method.AttentionDescent.Side;
import org.sentei.method.AttentionDescent.State;
import org.sentei.method.AttentionLayers.Form;
import org.sentei.tensor.BitMask;

class AttentionDescentTest {
    private static final Form FORM = new Form(4, 2, 6, 16, true, 0, true, true, false);

    private final Backend backend = AvailableBackends.open("reference");
    private Scope scope;
    private AttentionLoss fitting;
    private AttentionLoss judging;
    private AttentionLoss.Layer layer;

    @BeforeEach
    void open() {
        scope = new Scope(backend);
        layer = AttentionLayers.layer(FORM, 0.7, scope);
        fitting = new AttentionLoss(layer, AttentionLayers.inputs(FORM, 24, 1, scope), 6, scope);
        judging = new AttentionLoss(layer, AttentionLayers.inputs(FORM, 12, 2, scope), 6, scope);
    }

    @AfterEach
    void close() {
        scope.close();
        backend.close();
    }

    private static final class Heard implements AttentionDescent.Listener {
        private final List<Integer> steps = new ArrayList<>();
        private final List<State> saved = new ArrayList<>();

        @Override
        public void step(int step, double error) {
            steps.add(step);
        }

        @Override
        public void save(State state) {
            saved.add(state);
        }
    }

    private AttentionDescent descent(Rule rule, int steps, double rate, Selector.Budget query, Selector.Budget key) {
        AttentionLoss.Saliency saliency = fitting.saliency(24, 1);
        Optional<Side> queries = Optional.ofNullable(query)
                .map(budget -> new Side(layer.query().weight(), budget, saliency.query(), saliency.query()));
        Optional<Side> keys = Optional.ofNullable(key)
                .map(budget -> new Side(layer.key().weight(), budget, saliency.key(), saliency.key()));
        return new AttentionDescent(fitting, judging, queries, keys, new Settings(rule, steps, rate, 2, 0.2), scope);
    }

    private AttentionDescent descent(Rule rule, int steps) {
        return descent(rule, steps, 0.02, new Selector.Budget.Layer(144), new Selector.Budget.Layer(72));
    }

    private static double last(Found found) {
        return found.judged().stream().mapToDouble(Judged::error).min().orElseThrow();
    }

    @Test
    void straightThroughFindsBetterMasksThanItsStart() {
        Heard heard = new Heard();
        Found found = descent(Rule.STRAIGHT_THROUGH, 60).run(Optional.empty(), heard);
        assertThat(found.diverged()).isEmpty();
        assertThat(found.step()).isPositive();
        assertThat(last(found)).isLessThan(0.9 * found.judged().getFirst().error());
        assertThat(found.masks()).extracting(BitMask::count).containsExactly(144L, 72L);
        assertThat(found.errors()).hasSameSizeAs(heard.steps);
        assertThat(error(found.masks())).isEqualTo(last(found));
    }

    /** As the windows that judge see masks. */
    private double error(List<BitMask> masks) {
        List<AttentionLoss.Change> changes = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            View weight = i == 0 ? layer.query().weight() : layer.key().weight();
            float[] w = AttentionLayers.host(weight, scope);
            float[] difference = new float[w.length];
            for (int at = 0; at < w.length; at++) {
                long cols = weight.cols();
                difference[at] = masks.get(i).get(at / cols, at % cols) ? -w[at] : 0;
            }
            changes.add(new AttentionLoss.Change(
                    AttentionLayers.upload(difference, weight.rows(), weight.cols(), scope), null));
        }
        return judging.error(changes.getFirst(), changes.getLast());
    }

    @Test
    void theSoftMaskPaysLessFromStepToStep() {
        Heard heard = new Heard();
        Found found = descent(Rule.SOFT, 40).run(Optional.empty(), heard);
        assertThat(found.diverged()).isEmpty();
        assertThat(found.masks()).extracting(BitMask::count).containsExactly(144L, 72L);
        assertThat(last(found)).isLessThanOrEqualTo(found.judged().getFirst().error());
        double[] objectives = heard.saved.stream()
                .mapToDouble(state -> state.numbers().getFirst())
                .toArray();
        double[] sorted = objectives.clone();
        Arrays.sort(sorted);
        for (int i = 0; i < sorted.length; i++) {
            assertThat(objectives[i]).isEqualTo(sorted[sorted.length - 1 - i]);
        }
        assertThat(heard.saved).isNotEmpty();
    }

    @ParameterizedTest
    @EnumSource(Rule.class)
    void aDescentThatGoesOnEndsLikeOneThatNeverStopped(Rule rule) {
        Heard heard = new Heard();
        Found whole = descent(rule, 40).run(Optional.empty(), heard);
        assertThat(heard.saved).isNotEmpty();
        State middle = heard.saved.getFirst();
        Found resumed = descent(rule, 40).run(Optional.of(middle), new Heard());
        assertThat(resumed).isEqualTo(whole);
    }

    static List<Selector.Budget> budgets() {
        return List.of(
                new Selector.Budget.Row(5),
                new Selector.Budget.Groups(2, 4),
                new Selector.Budget.Layer(1),
                new Selector.Budget.Layer(0));
    }

    @ParameterizedTest
    @MethodSource("budgets")
    void everyBudgetIsSpentExactly(Selector.Budget budget) {
        for (Rule rule : Rule.values()) {
            Found found = descent(rule, 6, 0.02, budget, null).run(Optional.empty(), new Heard());
            assertThat(found.masks()).hasSize(1);
            BitMask mask = found.masks().getFirst();
            assertThat(mask.count()).isEqualTo(budget.pruned(24, AttentionLayers.WIDTH));
            for (long row = 0; row < 24 && budget instanceof Selector.Budget.Row; row++) {
                long pruned = 0;
                for (long col = 0; col < AttentionLayers.WIDTH; col++) {
                    pruned += mask.get(row, col) ? 1 : 0;
                }
                assertThat(pruned).isEqualTo(5);
            }
        }
    }

    @Test
    void withoutStepsTheStartIsAllThereIs() {
        Found found = descent(Rule.STRAIGHT_THROUGH, 0).run(Optional.empty(), new Heard());
        assertThat(found.step()).isZero();
        assertThat(found.errors()).isEmpty();
        assertThat(found.judged()).hasSize(1);
    }

    /** Steps as large as all ranks lead nowhere good. */
    @Test
    void aStartThatNothingBeatsIsKept() {
        Found good = descent(Rule.STRAIGHT_THROUGH, 60).run(Optional.empty(), new Heard());
        float[] ranking = new float[24 * AttentionLayers.WIDTH];
        for (int i = 0; i < ranking.length; i++) {
            ranking[i] = good.masks().getFirst().get(i / AttentionLayers.WIDTH, i % AttentionLayers.WIDTH) ? 1 : 2;
        }
        Side side = new Side(
                layer.query().weight(),
                new Selector.Budget.Layer(144),
                MemorySegment.ofArray(ranking),
                MemorySegment.ofArray(ranking));
        Found found = new AttentionDescent(
                        fitting,
                        judging,
                        Optional.of(side),
                        Optional.empty(),
                        new Settings(Rule.STRAIGHT_THROUGH, 10, 1, 2, 0.2),
                        scope)
                .run(Optional.empty(), new Heard());
        assertThat(found.step()).isZero();
        assertThat(found.masks().getFirst()).isEqualTo(good.masks().getFirst());
    }

    @ParameterizedTest
    @EnumSource(Rule.class)
    void numbersThatAreNotFiniteEndItWithTheBestMaskSoFar(Rule rule) {
        float[] x = AttentionLayers.host(AttentionLayers.inputs(FORM, 6, 1, scope), scope);
        x[100] = Float.NaN;
        fitting = new AttentionLoss(layer, AttentionLayers.upload(x, 6L * 16, AttentionLayers.WIDTH, scope), 6, scope);
        Found found = descent(rule, 10).run(Optional.empty(), new Heard());
        assertThat(found.diverged()).hasValue(1);
        assertThat(found.step()).isZero();
        assertThat(found.masks()).extracting(BitMask::count).containsExactly(144L, 72L);
    }

    @Test
    void theStepThatWasNotFiniteIsNamedThoughLossesAreReadLater() {
        float[] x = AttentionLayers.host(AttentionLayers.inputs(FORM, 24, 1, scope), scope);
        x[14 * 16 * AttentionLayers.WIDTH + 5] = Float.NaN; // in the third batch, which the second step sees
        fitting = new AttentionLoss(layer, AttentionLayers.inputs(FORM, 24, 1, scope), 6, scope);
        AttentionLoss broken =
                new AttentionLoss(layer, AttentionLayers.upload(x, 24L * 16, AttentionLayers.WIDTH, scope), 6, scope);
        AttentionLoss.Saliency saliency = fitting.saliency(24, 1);
        Side side =
                new Side(layer.query().weight(), new Selector.Budget.Layer(144), saliency.query(), saliency.query());
        Heard heard = new Heard();
        Found found = new AttentionDescent(
                        broken,
                        judging,
                        Optional.of(side),
                        Optional.empty(),
                        new Settings(Rule.STRAIGHT_THROUGH, 10, 0.02, 2, 0.2),
                        scope)
                .run(Optional.empty(), heard);
        assertThat(found.diverged()).hasValue(2);
        assertThat(found.errors()).hasSize(1);
        assertThat(heard.steps).containsExactly(1);
        assertThat(found.step()).isZero();
    }

    static Stream<Arguments> backends() {
        return AvailableBackends.names().stream()
                .flatMap(name -> Stream.of(true, false).map(normed -> Arguments.of(name, normed)));
    }

    /** The host has no part in a stretch of steps, so that a device can have all of it at once. */
    @ParameterizedTest
    @MethodSource("backends")
    void stepsUpToALookArePreparedAndAreWhatTheyAreOneByOne(String name, boolean normed) {
        try (Backend own = AvailableBackends.open(name)) {
            List<Sequence> stretches = new ArrayList<>();
            Found prepared = ToyDescent.run(normed, ToyDescent.watched(own, (sequence, call) -> {
                stretches.add(sequence);
                call.run();
            }));
            assertThat(stretches)
                    .extracting(stretch -> stretch.ops().stream()
                            .filter(MaskStep.class::isInstance)
                            .count())
                    .containsExactly(10L, 10L, 4L); // two projections a step
            assertThat(stretches.get(1)).as("the same batches again").isSameAs(stretches.getFirst());
            assertThat(prepared.errors()).hasSize(12);
            assertThat(prepared.judged()).extracting(Judged::step).containsExactly(0, 5, 10, 12);
            assertThat(ToyDescent.run(normed, ToyDescent.oneByOne(own))).isEqualTo(prepared);
        }
    }
}

package org.sentei.engine.training;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.stream.Stream;
import org.sentei.engine.Fingerprint;
import org.sentei.engine.Progress;
import org.sentei.engine.Stopwatch;
import org.sentei.engine.training.KeptFile.Origin;
import org.sentei.engine.training.PmpSettings.Budget;
import org.sentei.engine.training.PmpTraining.State;
import org.sentei.format.FormatException;
import org.sentei.format.OutputFolder;
import org.sentei.format.SealedFile;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * How far a run's trainings are, one file for each in the journal of its output folder, so that a killed run goes on where it
 * was: the numbers of a {@link State}, and {@code mask} for its mask.
 */
final class TrainingJournal {
    private final OutputFolder output;
    private final Fingerprint fingerprint;
    private final double learningRate;
    private final Progress progress;
    private final Map<Budget, Integer> steps = new EnumMap<>(Budget.class);
    private final Map<Budget, List<Earlier>> earlier = new EnumMap<>(Budget.class);
    private Stopwatch watch;

    /**
     * Steps that had another learning rate than the run that ends.
     *
     * @param before the first step that had not
     */
    record Earlier(int before, double learningRate) {}

    /** What a file says besides tensors. */
    record About(
            Origin origin, double learningRate, List<Earlier> earlier, int step, List<TrainingReport.Point> curve) {
        About {
            if (Stream.of(origin, earlier, curve).anyMatch(Objects::isNull)
                    || Stream.concat(earlier.stream(), curve.stream()).anyMatch(Objects::isNull)
                    || step < 1) {
                throw new IllegalArgumentException("it does not say what it is about");
            }
        }
    }

    /**
     * Reads what earlier runs have left, if anything.
     *
     * @param fingerprint what the result depends on, but for the learning rate
     * @throws FormatException when the journal is of a run with another fingerprint, or damaged
     */
    TrainingJournal(
            OutputFolder output, Fingerprint fingerprint, double learningRate, Stopwatch watch, Progress progress) {
        this.output = output;
        this.fingerprint = fingerprint;
        this.learningRate = learningRate;
        this.watch = watch;
        this.progress = progress;
        List<Path> files;
        try (Stream<Path> content = Files.list(output.journal())) {
            files = content.toList();
        } catch (IOException e) {
            throw new FormatException("journal " + output.journal() + " cannot be read: " + e.getMessage(), e);
        }
        for (Budget budget : Budget.values()) {
            if (files.contains(file(budget))) {
                resumed(budget, KeptFile.read(output, file(budget), About.class, SealedFile::about));
            }
        }
        if (steps.size() != files.size()) {
            throw new FormatException("journal " + output.journal() + " holds files that no training leaves there: "
                    + output.journalRemedy());
        }
    }

    private void resumed(Budget budget, About about) {
        about.origin().check(output, fingerprint);
        watch = about.origin().before(watch);
        steps.put(budget, about.step());
        List<Earlier> rates = new ArrayList<>(about.earlier());
        if (about.learningRate() != learningRate) {
            rates.add(new Earlier(about.step(), about.learningRate()));
        }
        earlier.put(budget, List.copyOf(rates));
    }

    /** The time of this run and, until their last entries, of the earlier ones. */
    Stopwatch watch() {
        return watch;
    }

    /** Steps of all trainings that need not be done again. */
    int steps() {
        return steps.values().stream().mapToInt(Integer::intValue).sum();
    }

    /** What earlier runs trained with another learning rate. */
    List<String> warnings() {
        List<String> warnings = new ArrayList<>();
        earlier.forEach((budget, rates) -> rates.forEach(rate -> warnings.add("learning_rate was "
                + rate.learningRate() + " in the steps before " + rate.before() + " of " + budget.label()
                + ", which an earlier run trained")));
        return warnings;
    }

    /** The part for the training to a budget. */
    PmpTraining.Checkpoints of(Budget budget) {
        return new PmpTraining.Checkpoints() {
            @Override
            public Optional<State> load(List<float[]> arrays) {
                return steps.containsKey(budget)
                        ? Optional.of(KeptFile.read(output, file(budget), About.class, entry -> state(entry, arrays)))
                        : Optional.empty();
            }

            @Override
            public void save(State state) {
                TrainingJournal.this.save(budget, state);
            }
        };
    }

    private static State state(SealedFile<About> entry, List<float[]> arrays) {
        KeptFile.fill(entry, arrays);
        BitMask mask = null;
        if (entry.tensors().contains("mask")) {
            // The latent weights come first.
            int count = arrays.getFirst().length;
            MemorySegment words = KeptFile.data(entry, "mask", DType.I32, Shape.of(BitMask.wordsPerRow(count)));
            mask = new BitMask(1, count, words.toArray(ValueLayout.JAVA_INT_UNALIGNED));
        }
        return new State(entry.about().step(), arrays, mask, entry.about().curve());
    }

    private void save(Budget budget, State state) {
        List<Tensor> tensors = KeptFile.tensors(state.arrays());
        if (state.mask() != null) {
            int[] words = state.mask().words();
            tensors.add(new Tensor("mask", DType.I32, Shape.of(words.length), MemorySegment.ofArray(words)));
        }
        KeptFile.write(
                output,
                file(budget),
                tensors,
                new About(
                        Origin.of(fingerprint, watch),
                        learningRate,
                        earlier.getOrDefault(budget, List.of()),
                        state.step(),
                        state.curve()));
        steps.put(budget, state.step());
        progress.journaled(steps());
    }

    private Path file(Budget budget) {
        return output.journal().resolve(budget.label() + ".safetensors");
    }
}

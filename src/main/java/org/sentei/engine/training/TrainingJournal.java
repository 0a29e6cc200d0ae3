package org.sentei.engine.training;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.DateTimeException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.stream.Stream;
import org.sentei.engine.Fingerprint;
import org.sentei.engine.Progress;
import org.sentei.engine.RunException;
import org.sentei.engine.Stopwatch;
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
 * was: {@code array.N} for the numbers of a {@link State} and {@code mask} for its mask.
 */
final class TrainingJournal implements AutoCloseable {
    private final OutputFolder output;
    private final Fingerprint fingerprint;
    private final double learningRate;
    private final Progress progress;
    private final Arena arena = Arena.ofShared();
    private final Map<Budget, SealedFile<About>> found = new EnumMap<>(Budget.class);
    private final Map<Budget, Integer> steps = new EnumMap<>(Budget.class);
    private final Map<Budget, List<Earlier>> earlier = new EnumMap<>(Budget.class);
    private Stopwatch watch;

    /**
     * Steps that had another learning rate than the run that ends.
     *
     * @param before the first step that had not
     */
    record Earlier(int before, double learningRate) {}

    /**
     * What a file says besides tensors.
     *
     * @param started when the first run started
     * @param seconds that the runs had taken when they wrote this
     */
    record About(
            Map<String, String> fingerprint,
            String started,
            double seconds,
            double learningRate,
            List<Earlier> earlier,
            int step,
            List<TrainingReport.Point> curve) {
        About {
            if (Stream.of(fingerprint, started, earlier, curve).anyMatch(Objects::isNull)
                    || fingerprint.values().stream().anyMatch(Objects::isNull)
                    || Stream.concat(earlier.stream(), curve.stream()).anyMatch(Objects::isNull)
                    || step < 1
                    || !(seconds >= 0 && seconds < Double.POSITIVE_INFINITY)) {
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
        try {
            read();
        } catch (RuntimeException e) {
            arena.close();
            throw e;
        }
    }

    private void read() {
        List<Path> files;
        try (Stream<Path> content = Files.list(output.journal())) {
            files = content.toList();
        } catch (IOException e) {
            throw new FormatException("journal " + output.journal() + " cannot be read: " + e.getMessage(), e);
        }
        for (Budget budget : Budget.values()) {
            Path file = file(budget);
            if (files.contains(file)) {
                try {
                    found.put(budget, SealedFile.map(file, About.class, arena));
                } catch (FormatException | IllegalArgumentException | IOException e) {
                    throw output.damagedJournal(file, e);
                }
            }
        }
        if (found.size() != files.size()) {
            throw new FormatException("journal " + output.journal() + " holds files that no training leaves there: "
                    + output.journalRemedy());
        }
        found.forEach((budget, entry) -> {
            About about = entry.about();
            Optional<String> difference = fingerprint.difference(new Fingerprint(about.fingerprint()));
            if (difference.isPresent()) {
                throw new FormatException(output.journal() + " is the journal of another run: " + difference.get()
                        + "; resume with what it began with, or " + output.journalRemedy());
            }
            try {
                Stopwatch read = watch.after(Instant.parse(about.started()), about.seconds());
                watch = read.seconds() > watch.seconds() ? read : watch;
            } catch (DateTimeException e) {
                throw output.damagedJournal(file(budget), e);
            }
            steps.put(budget, about.step());
            List<Earlier> rates = new ArrayList<>(about.earlier());
            if (about.learningRate() != learningRate) {
                rates.add(new Earlier(about.step(), about.learningRate()));
            }
            earlier.put(budget, List.copyOf(rates));
        });
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
                SealedFile<About> entry = found.get(budget);
                if (entry == null) {
                    return Optional.empty();
                }
                try {
                    return Optional.of(state(entry, arrays));
                } catch (FormatException | IllegalArgumentException e) {
                    throw output.damagedJournal(file(budget), e);
                }
            }

            @Override
            public void save(State state) {
                TrainingJournal.this.save(budget, state);
            }
        };
    }

    private static State state(SealedFile<About> entry, List<float[]> arrays) {
        for (int i = 0; i < arrays.size(); i++) {
            float[] array = arrays.get(i);
            MemorySegment data = data(entry, "array." + i, DType.F32, Shape.of(array.length));
            MemorySegment.copy(data, ValueLayout.JAVA_FLOAT_UNALIGNED, 0, array, 0, array.length);
        }
        BitMask mask = null;
        if (entry.tensors().contains("mask")) {
            // The latent weights come first.
            int count = arrays.getFirst().length;
            mask = new BitMask(
                    1,
                    count,
                    data(entry, "mask", DType.I32, Shape.of(BitMask.wordsPerRow(count)))
                            .toArray(ValueLayout.JAVA_INT_UNALIGNED));
        }
        return new State(entry.about().step(), arrays, mask, entry.about().curve());
    }

    private static MemorySegment data(SealedFile<About> entry, String name, DType dtype, Shape shape) {
        Tensor tensor = entry.tensors().tensor(name);
        if (tensor.dtype() != dtype || !tensor.shape().equals(shape)) {
            throw new IllegalArgumentException(name + " is " + tensor.dtype() + " " + tensor.shape());
        }
        return tensor.data();
    }

    private void save(Budget budget, State state) {
        List<Tensor> tensors = new ArrayList<>();
        for (int i = 0; i < state.arrays().size(); i++) {
            float[] array = state.arrays().get(i);
            tensors.add(new Tensor("array." + i, DType.F32, Shape.of(array.length), MemorySegment.ofArray(array)));
        }
        if (state.mask() != null) {
            int[] words = state.mask().words();
            tensors.add(new Tensor("mask", DType.I32, Shape.of(words.length), MemorySegment.ofArray(words)));
        }
        try {
            SealedFile.write(
                    file(budget),
                    tensors,
                    new About(
                            fingerprint.fields(),
                            watch.started().toString(),
                            watch.seconds(),
                            learningRate,
                            earlier.getOrDefault(budget, List.of()),
                            state.step(),
                            state.curve()));
        } catch (IOException e) {
            throw new RunException(
                    "the journal " + output.journal() + " cannot be written: " + e.getMessage() + "; make room", e);
        }
        output.keepJournal();
        steps.put(budget, state.step());
        progress.journaled(steps());
    }

    private Path file(Budget budget) {
        return output.journal().resolve(budget.label() + ".safetensors");
    }

    /** Unmaps the files. */
    @Override
    public void close() {
        arena.close();
    }
}

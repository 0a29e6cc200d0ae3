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
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.stream.Stream;
import org.sentei.engine.Fingerprint;
import org.sentei.engine.Progress;
import org.sentei.engine.RunException;
import org.sentei.engine.Stopwatch;
import org.sentei.format.FormatException;
import org.sentei.format.OutputFolder;
import org.sentei.format.SealedFile;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** How far the fit of a network is: one file in the journal of an output folder, {@code array.N} for its numbers. */
final class FitJournal {
    private static final String FILE = "fit.safetensors";

    private final OutputFolder output;
    private final Path folder;
    private final Fingerprint fingerprint;
    private final double learningRate;
    private final Progress progress;
    private Stopwatch watch;
    private Optional<About> found = Optional.empty();
    private List<Earlier> earlier = List.of();

    /** Steps of a fit that had another learning rate than the run that ends; before the first step that had not. */
    record Earlier(int round, int before, double learningRate) {}

    /**
     * What the file says besides tensors.
     *
     * @param round which fit, where there are many
     */
    record About(
            Map<String, String> fingerprint,
            String started,
            double seconds,
            double learningRate,
            List<Earlier> earlier,
            int round,
            int step,
            double lossSum,
            List<ImageReport.Point> curve) {
        About {
            if (Stream.of(fingerprint, started, earlier, curve).anyMatch(Objects::isNull)
                    || fingerprint.values().stream().anyMatch(Objects::isNull)
                    || Stream.concat(earlier.stream(), curve.stream()).anyMatch(Objects::isNull)
                    || step < 1
                    || round < 0
                    || !Double.isFinite(lossSum)
                    || !(seconds >= 0 && seconds < Double.POSITIVE_INFINITY)) {
                throw new IllegalArgumentException("it does not say what it is about");
            }
        }
    }

    /**
     * Reads what an earlier run has left, if anything.
     *
     * @param folder in the journal of the output, or that itself
     * @param fingerprint what the result depends on, but for the learning rate
     * @throws FormatException when the journal is of a run with another fingerprint, or damaged
     */
    FitJournal(
            OutputFolder output,
            Path folder,
            Fingerprint fingerprint,
            double learningRate,
            Stopwatch watch,
            Progress progress) {
        this.output = output;
        this.folder = folder;
        this.fingerprint = fingerprint;
        this.learningRate = learningRate;
        this.progress = progress;
        this.watch = watch;
        if (Files.exists(file())) {
            About about = read(SealedFile::about);
            check(about.fingerprint());
            resumed(about.started(), about.seconds());
            List<Earlier> rates = new ArrayList<>(about.earlier());
            if (about.learningRate() != learningRate) {
                rates.add(new Earlier(about.round(), about.step(), about.learningRate()));
            }
            earlier = List.copyOf(rates);
            found = Optional.of(about);
        }
    }

    /** Refuses the journal of a run that began with something else. */
    void check(Map<String, String> other) {
        Optional<String> difference = fingerprint.difference(new Fingerprint(other));
        if (difference.isPresent()) {
            throw new FormatException(output.journal() + " is the journal of another run: " + difference.get()
                    + "; resume with what it began with, or " + output.journalRemedy());
        }
    }

    /** Counts the time of an earlier run too. */
    void resumed(String started, double seconds) {
        try {
            Stopwatch read = watch.after(Instant.parse(started), seconds);
            watch = read.seconds() > watch.seconds() ? read : watch;
        } catch (DateTimeException e) {
            throw output.damagedJournal(file(), e);
        }
    }

    /** What the result depends on. */
    Map<String, String> fingerprint() {
        return fingerprint.fields();
    }

    /** The time of this run and, until their last entries, of the earlier ones. */
    Stopwatch watch() {
        return watch;
    }

    /** Steps of the last fit that need not be done again. */
    int steps() {
        return found.map(About::step).orElse(0);
    }

    /** What earlier runs fitted with another learning rate. */
    List<String> warnings() {
        return earlier.stream()
                .map(rate -> "learning_rate was " + rate.learningRate() + " in the steps before " + rate.before()
                        + " of round " + rate.round() + ", which an earlier run trained")
                .toList();
    }

    /** The part for a round; what is kept of another one is of no use to it. */
    Fitter.Checkpoints of(int round) {
        return new Fitter.Checkpoints() {
            @Override
            public Optional<Fitter.State> load(List<float[]> arrays) {
                return found.filter(about -> about.round() == round).map(_ -> read(file -> state(file, arrays)));
            }

            @Override
            public void save(Fitter.State state) {
                FitJournal.this.save(round, state);
            }
        };
    }

    @FunctionalInterface
    private interface Reading<T> {
        T of(SealedFile<About> file);
    }

    private <T> T read(Reading<T> reading) {
        try (Arena arena = Arena.ofConfined()) {
            return reading.of(SealedFile.map(file(), About.class, arena));
        } catch (FormatException | IllegalArgumentException | IOException e) {
            throw output.damagedJournal(file(), e);
        }
    }

    private static Fitter.State state(SealedFile<About> file, List<float[]> arrays) {
        for (int i = 0; i < arrays.size(); i++) {
            float[] array = arrays.get(i);
            Tensor tensor = file.tensors().tensor("array." + i);
            if (tensor.dtype() != DType.F32 || !tensor.shape().equals(Shape.of(array.length))) {
                throw new IllegalArgumentException("array." + i + " is " + tensor.dtype() + " " + tensor.shape());
            }
            MemorySegment.copy(tensor.data(), ValueLayout.JAVA_FLOAT_UNALIGNED, 0, array, 0, array.length);
        }
        About about = file.about();
        return new Fitter.State(about.step(), arrays, about.lossSum(), about.curve());
    }

    private void save(int round, Fitter.State state) {
        List<Tensor> tensors = new ArrayList<>();
        for (int i = 0; i < state.arrays().size(); i++) {
            float[] array = state.arrays().get(i);
            tensors.add(new Tensor("array." + i, DType.F32, Shape.of(array.length), MemorySegment.ofArray(array)));
        }
        try {
            SealedFile.write(
                    file(),
                    tensors,
                    new About(
                            fingerprint.fields(),
                            watch.started().toString(),
                            watch.seconds(),
                            learningRate,
                            earlier,
                            round,
                            state.step(),
                            state.lossSum(),
                            state.curve()));
        } catch (IOException e) {
            throw new RunException(
                    "the journal " + output.journal() + " cannot be written: " + e.getMessage() + "; make room", e);
        }
        output.keepJournal();
        progress.journaled(state.step());
    }

    private Path file() {
        return folder.resolve(FILE);
    }
}

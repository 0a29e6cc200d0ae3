package org.sentei.engine.training;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.stream.Stream;
import org.sentei.engine.Fingerprint;
import org.sentei.engine.Journaling;
import org.sentei.engine.Progress;
import org.sentei.engine.Stopwatch;
import org.sentei.engine.training.KeptFile.Origin;
import org.sentei.format.FormatException;
import org.sentei.format.OutputFolder;
import org.sentei.format.SealedFile;

/** How far the fit of a network is: one file in the journal of an output folder. */
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
            Origin origin,
            double learningRate,
            List<Earlier> earlier,
            int round,
            int step,
            double lossSum,
            List<ImageReport.Point> curve) {
        About {
            if (Stream.of(origin, earlier, curve).anyMatch(Objects::isNull)
                    || Stream.concat(earlier.stream(), curve.stream()).anyMatch(Objects::isNull)
                    || step < 1
                    || round < 0
                    || !Double.isFinite(lossSum)) {
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
            About about = KeptFile.read(output, file(), About.class, SealedFile::about);
            resumed(about.origin());
            List<Earlier> rates = new ArrayList<>(about.earlier());
            if (about.learningRate() != learningRate) {
                rates.add(new Earlier(about.round(), about.step(), about.learningRate()));
            }
            earlier = List.copyOf(rates);
            found = Optional.of(about);
        }
    }

    /** Counts the time of an earlier run too, unless it began with something else. */
    void resumed(Origin origin) {
        origin.check(output, fingerprint);
        watch = origin.before(watch);
    }

    /** Of this run. */
    Origin origin() {
        return Origin.of(fingerprint, watch);
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

    /** The part for a round, which keeps nothing where nobody will resume; what is kept of another one is of no use to it. */
    Fitter.Checkpoints of(int round, Journaling journaling) {
        if (journaling == Journaling.OFF) {
            return Fitter.NOT_KEPT;
        }
        return new Fitter.Checkpoints() {
            @Override
            public Optional<Fitter.State> load(List<float[]> arrays) {
                return found.filter(about -> about.round() == round)
                        .map(_ -> KeptFile.read(output, file(), About.class, file -> {
                            KeptFile.fill(file, arrays);
                            About about = file.about();
                            return new Fitter.State(about.step(), arrays, about.lossSum(), about.curve());
                        }));
            }

            @Override
            public void save(Fitter.State state) {
                KeptFile.write(
                        output,
                        file(),
                        KeptFile.tensors(state.arrays()),
                        new About(
                                origin(), learningRate, earlier, round, state.step(), state.lossSum(), state.curve()));
                progress.journaled(state.step());
            }
        };
    }

    private Path file() {
        return folder.resolve(FILE);
    }
}

package org.sentei.engine;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.DateTimeException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.sentei.engine.Compressor.BiasFate;
import org.sentei.engine.Compressor.GroupOutcome;
import org.sentei.engine.Compressor.Outcome;
import org.sentei.engine.recipe.Easier;
import org.sentei.engine.recipe.Recipe.Step;
import org.sentei.engine.report.Report;
import org.sentei.format.FormatException;
import org.sentei.format.OutputFolder;
import org.sentei.format.Safetensors;
import org.sentei.format.SealedFile;
import org.sentei.method.AttentionDescent;
import org.sentei.method.WeightScore;
import org.sentei.model.AttentionPair;
import org.sentei.model.Edit;
import org.sentei.model.Site;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * What a run has decided, one file for each group of sites, so that a killed run need not decide it again.
 *
 * <p>An entry is a {@link SealedFile} about an {@link About}. For the N-th site of the group it holds {@code mask.N}, the
 * words of its {@link BitMask} as I32, and {@code weight.N} and {@code bias.N} where the edit has them. What is wrong under
 * the name of an entry was not left by a kill. Beside the entries one more file holds how far the descent of an attention layer
 * is, until the group of that layer is decided.
 */
final class Journal implements AutoCloseable, AttentionPruning.Checkpoints {
    private static final String DESCENT = "descent.safetensors";

    /** Null, as the fingerprint and the listener, when nothing is kept. */
    private final OutputFolder output;

    private final Supplier<Fingerprint> fingerprint;
    private final Progress progress;
    private final Arena arena = Arena.ofShared();
    private final List<GroupOutcome> decided = new ArrayList<>();
    private Optional<SealedFile<Descending>> descending = Optional.empty();
    private Stopwatch watch;
    private int entries;

    private Journal(OutputFolder output, Supplier<Fingerprint> fingerprint, Stopwatch watch, Progress progress) {
        this.output = output;
        this.fingerprint = fingerprint;
        this.watch = watch;
        this.progress = progress;
    }

    /**
     * What an entry says besides tensors.
     *
     * @param started when the first run started
     * @param seconds that the runs had taken when they wrote this
     * @param halved whether batches were halved
     */
    record About(Map<String, String> fingerprint, String started, double seconds, boolean halved, List<Decided> sites) {
        About {
            if (fingerprint == null
                    || fingerprint.values().stream().anyMatch(Objects::isNull)
                    || started == null
                    || sites == null
                    || sites.stream().anyMatch(Objects::isNull)
                    || !(seconds >= 0 && seconds < Double.POSITIVE_INFINITY)) {
                throw new IllegalArgumentException("it does not say what it is about");
            }
        }
    }

    /** What an {@link Outcome} holds besides edit and step. */
    record Decided(
            String site,
            WeightScore score,
            BiasFate bias,
            Double meanEnergy,
            Double damping,
            long zeros,
            Double error,
            double seconds,
            Report.Attention attention) {
        Decided {
            if (site == null) {
                throw new IllegalArgumentException("it leaves out a site's name");
            }
        }
    }

    /**
     * What the file about a descent says besides tensors: {@code best.N} for its masks, {@code state.N} for its numbers.
     *
     * @param layer name of the site that makes the queries
     */
    record Descending(
            Map<String, String> fingerprint,
            String started,
            double seconds,
            String layer,
            List<Double> errors,
            List<AttentionDescent.Judged> judged,
            List<Double> numbers,
            List<Long> columns) {
        Descending {
            if (Stream.of(fingerprint, started, layer, errors, judged, numbers, columns)
                            .anyMatch(Objects::isNull)
                    || judged.isEmpty()
                    || columns.isEmpty()
                    || columns.size() > 2
                    || !(seconds >= 0 && seconds < Double.POSITIVE_INFINITY)) {
                throw new IllegalArgumentException("it does not say what it is about");
            }
        }
    }

    /** Keeps nothing. */
    static Journal off(Stopwatch watch) {
        return new Journal(null, null, watch, null);
    }

    /**
     * Reads what earlier runs have left in the output's journal, if anything.
     *
     * @param fingerprint asked for when there is an entry to read or to write
     * @param steps of all targeted sites
     * @param watch of this run
     * @param progress hears of every entry
     * @throws FormatException when the journal is of a run with another fingerprint, or damaged
     */
    static Journal open(
            OutputFolder output,
            Supplier<Fingerprint> fingerprint,
            Map<Site, Step> steps,
            Stopwatch watch,
            Progress progress) {
        Journal journal = new Journal(output, fingerprint, watch, progress);
        try {
            journal.read(steps);
            journal.readDescent();
            return journal;
        } catch (RuntimeException e) {
            journal.close();
            throw e;
        }
    }

    /** The outcomes of every group that earlier runs decided; valid until this is closed. */
    List<GroupOutcome> decided() {
        return List.copyOf(decided);
    }

    /** The time of this run and, until their last entries, of the earlier ones. */
    Stopwatch watch() {
        return watch;
    }

    /**
     * Adds the next group; when this returns, it is on the disk.
     *
     * @throws RunException when it cannot be written
     */
    void append(GroupOutcome decision) {
        if (output == null) {
            return;
        }
        List<Outcome> group = decision.outcomes();
        List<Tensor> tensors = new ArrayList<>();
        for (int i = 0; i < group.size(); i++) {
            Edit edit = group.get(i).edit();
            MemorySegment words = MemorySegment.ofArray(edit.pruned().words());
            tensors.add(new Tensor("mask." + i, DType.I32, maskShape(edit.site()), words));
            if (edit.weight() != null) {
                tensors.add(renamed(edit.weight(), "weight." + i));
            }
            if (edit.bias() != null) {
                tensors.add(renamed(edit.bias(), "bias." + i));
            }
        }
        List<Decided> sites = group.stream().map(Journal::decided).toList();
        try {
            About about = new About(
                    fingerprint.get().fields(), watch.started().toString(), watch.seconds(), decision.halved(), sites);
            SealedFile.write(entry(entries), tensors, about);
        } catch (IOException e) {
            throw notWritten(e);
        }
        entries++;
        try {
            Files.deleteIfExists(descent());
        } catch (IOException e) {
            throw notWritten(e);
        }
        output.keepJournal();
        progress.journaled(entries);
    }

    private RunException notWritten(IOException e) {
        return new RunException(
                "the journal " + output.journal() + " cannot be written: " + e.getMessage() + "; make room", e);
    }

    private Path descent() {
        return output.journal().resolve(DESCENT);
    }

    @Override
    public void save(AttentionPair layer, AttentionDescent.State state) {
        if (output == null) {
            return;
        }
        List<Tensor> tensors = new ArrayList<>();
        for (int i = 0; i < state.best().size(); i++) {
            BitMask mask = state.best().get(i);
            Shape shape = Shape.of(mask.rows(), BitMask.wordsPerRow(mask.cols()));
            tensors.add(new Tensor("best." + i, DType.I32, shape, MemorySegment.ofArray(mask.words())));
        }
        for (int i = 0; i < state.tensors().size(); i++) {
            MemorySegment values = state.tensors().get(i);
            Shape shape = Shape.of(values.byteSize() / Float.BYTES);
            tensors.add(new Tensor("state." + i, DType.F32, shape, values));
        }
        try {
            Descending about = new Descending(
                    fingerprint.get().fields(),
                    watch.started().toString(),
                    watch.seconds(),
                    layer.query().name(),
                    state.errors(),
                    state.judged(),
                    state.numbers(),
                    state.best().stream().map(BitMask::cols).toList());
            SealedFile.write(descent(), tensors, about);
        } catch (IOException e) {
            throw notWritten(e);
        }
        output.keepJournal();
        progress.journaled(entries);
    }

    /** Whether all that an earlier run left is a descent that it was in the middle of. */
    boolean beginsInside() {
        return entries == 0 && descending.isPresent();
    }

    /** Of another layer, or of a descent that diverged, there is nothing to go on from. */
    @Override
    public Optional<AttentionDescent.State> load(AttentionPair layer) {
        return descending
                .filter(file -> file.about().layer().equals(layer.query().name()))
                .map(file -> {
                    try {
                        return state(file);
                    } catch (FormatException | IllegalArgumentException | IndexOutOfBoundsException e) {
                        throw output.damagedJournal(descent(), e);
                    }
                })
                .filter(state -> !state.tensors().isEmpty());
    }

    private static AttentionDescent.State state(SealedFile<Descending> file) {
        Descending about = file.about();
        List<BitMask> best = new ArrayList<>();
        for (int i = 0; i < about.columns().size(); i++) {
            Tensor mask = file.tensors().tensor("best." + i);
            int[] words = mask.data().toArray(ValueLayout.JAVA_INT_UNALIGNED);
            best.add(new BitMask(mask.shape().dimension(0), about.columns().get(i), words));
        }
        List<MemorySegment> tensors = new ArrayList<>();
        for (int i = 0; file.tensors().contains("state." + i); i++) {
            tensors.add(MemorySegment.ofArray(
                    file.tensors().tensor("state." + i).data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED)));
        }
        return new AttentionDescent.State(about.errors(), about.judged(), best, about.numbers(), tensors);
    }

    private void readDescent() {
        if (!Files.exists(descent())) {
            return;
        }
        SealedFile<Descending> file;
        try {
            file = SealedFile.map(descent(), Descending.class, arena);
            watch = watch.after(
                    Instant.parse(file.about().started()), file.about().seconds());
        } catch (FormatException | IllegalArgumentException | DateTimeException | IOException e) {
            throw output.damagedJournal(descent(), e);
        }
        checkFingerprint(file.about().fingerprint());
        descending = Optional.of(file);
    }

    private void checkFingerprint(Map<String, String> found) {
        Optional<String> difference = fingerprint.get().difference(new Fingerprint(found));
        if (difference.isPresent()) {
            throw new FormatException(output.journal() + " is the journal of another run: " + difference.get()
                    + "; resume with what it began with, or " + output.journalRemedy());
        }
    }

    private static Decided decided(Outcome outcome) {
        return new Decided(
                outcome.edit().site().name(),
                outcome.score(),
                outcome.bias(),
                outcome.meanEnergy(),
                outcome.damping(),
                outcome.zeros(),
                outcome.error(),
                outcome.seconds(),
                outcome.attention());
    }

    private void read(Map<Site, Step> steps) {
        Map<String, Site> undecided = new HashMap<>();
        steps.keySet().forEach(site -> undecided.put(site.name(), site));
        for (int count = count(); entries < count; entries++) {
            Path file = entry(entries);
            SealedFile<About> sealed;
            About about;
            try {
                sealed = SealedFile.map(file, About.class, arena);
                about = sealed.about();
                watch = watch.after(Instant.parse(about.started()), about.seconds());
            } catch (FormatException | IllegalArgumentException | DateTimeException | IOException e) {
                throw output.damagedJournal(file, e);
            }
            checkFingerprint(about.fingerprint());
            try {
                decided.add(
                        new GroupOutcome(outcomes(sealed.tensors(), about.sites(), undecided, steps), about.halved()));
            } catch (FormatException | IllegalArgumentException e) {
                throw output.damagedJournal(file, e);
            }
        }
    }

    /** Number of entries; nothing else but a descent and the rounds of EASIER is in the folder. */
    private int count() {
        Set<Path> files;
        try (Stream<Path> content = Files.list(output.journal())) {
            files = content.filter(file -> !file.equals(descent())
                            && !file.equals(output.journal().resolve(Easier.KEY)))
                    .collect(Collectors.toSet());
        } catch (IOException e) {
            throw new FormatException("journal " + output.journal() + " cannot be read: " + e.getMessage(), e);
        }
        for (int i = 0; i < files.size(); i++) {
            if (!files.contains(entry(i))) {
                throw new FormatException("journal " + output.journal() + " is damaged, it has " + files.size()
                        + " files, but no " + entry(i).getFileName() + ": " + output.journalRemedy());
            }
        }
        return files.size();
    }

    private static List<Outcome> outcomes(
            Safetensors tensors, List<Decided> sites, Map<String, Site> undecided, Map<Site, Step> steps) {
        List<Outcome> outcomes = new ArrayList<>();
        for (int i = 0; i < sites.size(); i++) {
            Decided decided = sites.get(i);
            Site site = undecided.remove(decided.site());
            if (site == null) {
                throw new IllegalArgumentException("site " + decided.site() + " is decided twice, or no target");
            }
            Tensor mask = tensors.tensor("mask." + i);
            if (mask.dtype() != DType.I32 || !mask.shape().equals(maskShape(site))) {
                throw new IllegalArgumentException(mask.name() + " is " + mask.dtype() + " " + mask.shape());
            }
            int[] words = mask.data().toArray(ValueLayout.JAVA_INT_UNALIGNED);
            Outcome outcome = new Outcome(
                    new Edit(
                            site,
                            new BitMask(site.rows(), site.cols(), words),
                            optional(tensors, "weight." + i, site.weight()),
                            optional(tensors, "bias." + i, Edits.biasName(site))),
                    steps.get(site),
                    decided.score(),
                    decided.bias(),
                    decided.meanEnergy(),
                    decided.damping(),
                    decided.zeros(),
                    decided.error(),
                    decided.seconds(),
                    decided.attention());
            outcome.reported(); // refuses numbers that do not fit together
            outcomes.add(outcome);
        }
        return outcomes;
    }

    private static Tensor optional(Safetensors tensors, String name, String original) {
        return tensors.contains(name) ? renamed(tensors.tensor(name), original) : null;
    }

    private static Tensor renamed(Tensor tensor, String name) {
        return new Tensor(name, tensor.dtype(), tensor.shape(), tensor.data());
    }

    private static Shape maskShape(Site site) {
        return Shape.of(site.rows(), BitMask.wordsPerRow(site.cols()));
    }

    private Path entry(int index) {
        return output.journal().resolve(String.format(Locale.ROOT, "group-%04d.safetensors", index));
    }

    /** Unmaps the entries. */
    @Override
    public void close() {
        arena.close();
    }
}

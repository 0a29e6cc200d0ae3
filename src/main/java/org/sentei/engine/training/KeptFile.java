package org.sentei.engine.training;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.time.DateTimeException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.function.Function;
import org.sentei.engine.Fingerprint;
import org.sentei.engine.RunException;
import org.sentei.engine.Stopwatch;
import org.sentei.format.FormatException;
import org.sentei.format.OutputFolder;
import org.sentei.format.SealedFile;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** Files in which journals of trainings keep how far they are: {@code array.N} for numbers, and who began it when. */
final class KeptFile {
    private KeptFile() {}

    /**
     * The run that a file is of.
     *
     * @param fingerprint what its result depends on
     * @param started when the first of the runs that continue each other started
     * @param seconds that they had taken when they wrote this
     */
    record Origin(Map<String, String> fingerprint, String started, double seconds) {
        Origin {
            if (fingerprint == null
                    || fingerprint.values().stream().anyMatch(Objects::isNull)
                    || started == null
                    || !(seconds >= 0 && seconds < Double.POSITIVE_INFINITY)) {
                throw new IllegalArgumentException("it does not say what it is about");
            }
            try {
                Instant.parse(started);
            } catch (DateTimeException wrong) {
                throw new IllegalArgumentException("it started at " + started + ", which is no time", wrong);
            }
        }

        static Origin of(Fingerprint fingerprint, Stopwatch watch) {
            return new Origin(fingerprint.fields(), watch.started().toString(), watch.seconds());
        }

        /** Refuses what a run left that began with something else. */
        void check(OutputFolder output, Fingerprint own) {
            Optional<String> difference = own.difference(new Fingerprint(fingerprint));
            if (difference.isPresent()) {
                throw new FormatException(output.journal() + " is the journal of another run: " + difference.get()
                        + "; resume with what it began with, or " + output.journalRemedy());
            }
        }

        /** A watch that counts these runs too, where it does not already count more. */
        Stopwatch before(Stopwatch watch) {
            Stopwatch all = watch.after(Instant.parse(started), seconds);
            return all.seconds() > watch.seconds() ? all : watch;
        }
    }

    /**
     * Reads a file.
     *
     * @param about the record in it
     * @param reading of what is mapped only while it runs; refuses content by an {@link IllegalArgumentException}
     * @throws FormatException when it is damaged
     */
    static <T extends Record, R> R read(
            OutputFolder output, Path file, Class<T> about, Function<SealedFile<T>, R> reading) {
        try (Arena arena = Arena.ofConfined()) {
            return reading.apply(SealedFile.map(file, about, arena));
        } catch (FormatException | IllegalArgumentException | IOException e) {
            throw output.damagedJournal(file, e);
        }
    }

    /**
     * Writes a file in place of the last, and lets the journal stay when the run ends.
     *
     * @throws RunException when there is no room
     */
    static void write(OutputFolder output, Path file, List<Tensor> tensors, Record about) {
        try {
            SealedFile.write(file, tensors, about);
        } catch (IOException e) {
            throw new RunException(
                    "the journal " + output.journal() + " cannot be written: " + e.getMessage() + "; make room", e);
        }
        output.keepJournal();
    }

    /** Numbers as tensors, which are views of them. */
    static List<Tensor> tensors(List<float[]> arrays) {
        List<Tensor> tensors = new ArrayList<>();
        for (int i = 0; i < arrays.size(); i++) {
            float[] array = arrays.get(i);
            tensors.add(new Tensor("array." + i, DType.F32, Shape.of(array.length), MemorySegment.ofArray(array)));
        }
        return tensors;
    }

    /** Fills arrays with the numbers of a file. */
    static void fill(SealedFile<?> file, List<float[]> arrays) {
        for (int i = 0; i < arrays.size(); i++) {
            float[] array = arrays.get(i);
            MemorySegment data = data(file, "array." + i, DType.F32, Shape.of(array.length));
            MemorySegment.copy(data, ValueLayout.JAVA_FLOAT_UNALIGNED, 0, array, 0, array.length);
        }
    }

    /** A tensor of a file, of just this type and shape. */
    static MemorySegment data(SealedFile<?> file, String name, DType dtype, Shape shape) {
        Tensor tensor = file.tensors().tensor(name);
        if (tensor.dtype() != dtype || !tensor.shape().equals(shape)) {
            throw new IllegalArgumentException(name + " is " + tensor.dtype() + " " + tensor.shape());
        }
        return tensor.data();
    }
}

package org.sentei.backend.cuda;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.io.Writer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import jcuda.driver.CUevent;
import jcuda.driver.CUevent_flags;
import jcuda.driver.CUstream;
import jcuda.driver.JCudaDriver;
import org.sentei.kernel.DeviceException;
import org.sentei.platform.Settings;

/**
 * When kernels and copies ran, by events of the device around each: a file in the trace format of Chromium's tracing, where
 * {@link Settings#CUDA_TRACE} names one. The share of the copies' time that lies under kernels is part of it.
 */
final class Timeline {
    private static final int MOST_SPANS = 100_000;

    /** A stream. */
    enum Lane {
        COMPUTE(0),
        UPLOAD(1),
        DOWNLOAD(2);

        private final int number;

        Lane(int number) {
            this.number = number;
        }
    }

    /** What runs. */
    enum Kind {
        KERNEL,
        COPY
    }

    private record Span(Lane lane, Kind kind, String name, CUevent begin, CUevent end) {}

    /** A span in microseconds from the first event on. */
    private record Timed(Lane lane, Kind kind, String name, double begin, double end) {}

    private final CudaDriver driver;
    /** Null where nothing is recorded. */
    private final Path file;

    private final CUevent zero = new CUevent();
    private final List<Span> spans = new ArrayList<>();
    private long leftOut;

    private Timeline(CudaDriver driver, Path file) {
        this.driver = driver;
        this.file = file;
    }

    /** The timeline that the settings ask for; its time begins now, on this stream. */
    static Timeline find(CudaDriver driver, CUstream stream) {
        Timeline timeline = new Timeline(
                driver, Settings.find(Settings.CUDA_TRACE).map(Path::of).orElse(null));
        if (timeline.file != null) {
            timeline.record(timeline.zero, stream);
        }
        return timeline;
    }

    private void record(CUevent event, CUstream stream) {
        driver.check("cuEventCreate", JCudaDriver.cuEventCreate(event, CUevent_flags.CU_EVENT_DEFAULT));
        driver.check("cuEventRecord", JCudaDriver.cuEventRecord(event, stream));
    }

    /** Gives work to a stream, and remembers when it ran. Several threads may. */
    void span(Lane lane, Kind kind, String name, CUstream stream, Runnable work) {
        if (file == null) {
            work.run();
            return;
        }
        synchronized (this) { // what other threads give to the stream shall not lie between the events
            if (spans.size() == MOST_SPANS) {
                leftOut++;
                work.run();
                return;
            }
            Span span = new Span(lane, kind, name, new CUevent(), new CUevent());
            record(span.begin, stream);
            work.run();
            record(span.end, stream);
            spans.add(span);
        }
    }

    /**
     * Writes the file when all work is done, once.
     *
     * @throws DeviceException when it cannot
     */
    void write() {
        if (file == null) {
            return;
        }
        List<Timed> timed = new ArrayList<>();
        for (Span span : spans) {
            timed.add(new Timed(span.lane, span.kind, span.name, microseconds(span.begin), microseconds(span.end)));
            driver.check("cuEventDestroy", JCudaDriver.cuEventDestroy(span.begin));
            driver.check("cuEventDestroy", JCudaDriver.cuEventDestroy(span.end));
        }
        driver.check("cuEventDestroy", JCudaDriver.cuEventDestroy(zero));
        spans.clear();
        try (Writer writer = Files.newBufferedWriter(file)) {
            write(timed, writer);
        } catch (IOException e) {
            throw new DeviceException(
                    CudaDriver.NAME,
                    "writing the trace " + file,
                    new UncheckedIOException(e).getMessage() + "; name another place by "
                            + Settings.environmentName(Settings.CUDA_TRACE),
                    DeviceException.Kind.INTERNAL,
                    e);
        }
    }

    private double microseconds(CUevent event) {
        float[] milliseconds = new float[1];
        driver.check("cuEventElapsedTime", JCudaDriver.cuEventElapsedTime(milliseconds, zero, event));
        return milliseconds[0] * 1e3;
    }

    private void write(List<Timed> timed, Writer writer) throws IOException {
        double copies = timed.stream()
                .filter(span -> span.kind == Kind.COPY)
                .mapToDouble(span -> span.end - span.begin)
                .sum();
        writer.write(String.format(
                Locale.ROOT,
                "{\"otherData\": {\"copy_us\": %.1f, \"copy_under_kernels_us\": %.1f, \"spans_left_out\": %d},%n"
                        + "\"traceEvents\": [",
                copies,
                underKernels(timed),
                leftOut));
        String separator = "";
        for (Lane lane : Lane.values()) {
            writer.write(String.format(
                    Locale.ROOT,
                    "%s%n{\"name\": \"thread_name\", \"ph\": \"M\", \"pid\": 0, \"tid\": %d, \"args\": {\"name\": \"%s\"}}",
                    separator,
                    lane.number,
                    lane.name().toLowerCase(Locale.ROOT)));
            separator = ",";
        }
        for (Timed span : timed) {
            writer.write(String.format(
                    Locale.ROOT,
                    "%s%n{\"name\": \"%s\", \"cat\": \"%s\", \"ph\": \"X\", \"pid\": 0, \"tid\": %d, \"ts\": %.3f,"
                            + " \"dur\": %.3f}",
                    separator,
                    span.name,
                    span.kind.name().toLowerCase(Locale.ROOT),
                    span.lane.number,
                    span.begin,
                    span.end - span.begin));
        }
        writer.write(String.format("%n]}%n"));
    }

    /** Of the time that copies took, that in which some kernel ran; kernels run one after the other. */
    private static double underKernels(List<Timed> timed) {
        List<Timed> kernels = timed.stream()
                .filter(span -> span.kind == Kind.KERNEL)
                .sorted(Comparator.comparingDouble(Timed::begin))
                .toList();
        List<Timed> copies = timed.stream()
                .filter(span -> span.kind == Kind.COPY)
                .sorted(Comparator.comparingDouble(Timed::begin))
                .toList();
        double under = 0;
        int first = 0;
        for (Timed copy : copies) {
            while (first < kernels.size() && kernels.get(first).end <= copy.begin) {
                first++;
            }
            for (int i = first; i < kernels.size() && kernels.get(i).begin < copy.end; i++) {
                under += Math.max(
                        0, Math.min(copy.end, kernels.get(i).end) - Math.max(copy.begin, kernels.get(i).begin));
            }
        }
        return under;
    }
}

package org.sentei.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.ServiceLoader;
import org.sentei.engine.Progress;
import org.sentei.engine.RunException;
import org.sentei.engine.Version;
import org.sentei.format.FormatException;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.Ceilings;
import org.sentei.kernel.Conformance;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.DeviceInfo;
import org.sentei.kernel.Op;
import org.sentei.kernel.OpCase;
import org.sentei.kernel.OpCases;
import org.sentei.kernel.UserKernel;

/**
 * Times cases on backends: first every kernel in question against the reference, then the machine's ceilings, the cases, each
 * held against the reference too, and the ceilings again, of which the higher count.
 */
public final class Bench {
    private static final String REFERENCE = "reference";
    private static final String PROCESSOR = "cpu";
    private static final long SEED = 1;
    /** Bytes of a kernel's source. */
    private static final long LONGEST_KERNEL = 1 << 20;

    private Bench() {}

    /**
     * The backends that are there to be fast, fastest first: all that are available down to the processor's own kernels. What
     * ranks below, OpenCL on the processor and the reference, is there to be right.
     */
    public static List<String> fastBackends() {
        List<String> names = Backends.providers().stream()
                .filter(provider -> !provider.name().equals(REFERENCE)
                        && provider.unavailableBecause().isEmpty())
                .map(Backend.Provider::name)
                .toList();
        int slowest = names.indexOf(PROCESSOR);
        return slowest < 0 ? names : names.subList(0, slowest + 1);
    }

    /**
     * Times every case on every backend that has its op. A case that computes wrong or fails is not timed, and the others go on.
     *
     * @param backends names of backends
     * @param cases of {@link OpCases#benchmarks()} or {@link OpCases#modelShapes()}
     * @param limit no case begins when so many seconds have passed; infinite for none
     * @throws DeviceException UNSUPPORTED when a backend is not available, computes small cases wrong, or has none of the ops
     * @throws RunException when there is no harness
     */
    public static BenchReport run(
            List<String> backends,
            Backend.Options options,
            List<OpCase> cases,
            Harness.Schedule schedule,
            double limit,
            Progress progress) {
        return time(
                backends.stream()
                        .map(backend -> new Contender(backend, Optional.empty()))
                        .toList(),
                options,
                cases,
                schedule,
                limit,
                progress);
    }

    /**
     * Times a user's kernels of one op beside the backend's own, once all conformance cases of the op agree on them.
     *
     * @param backend that compiles them
     * @param cases of {@link OpCases#benchmarks()} or {@link OpCases#modelShapes()}, all of that op
     * @param limit no case begins when so many seconds have passed; infinite for none
     * @throws FormatException when the file cannot be read
     * @throws DeviceException COMPILE when they cannot be compiled, UNSUPPORTED with the first case that they get wrong, or
     *     when the backend is not available
     * @throws RunException when there is no harness or a case fails
     */
    public static BenchReport run(
            Path kernel,
            String backend,
            Backend.Options options,
            List<OpCase> cases,
            Harness.Schedule schedule,
            double limit,
            Progress progress) {
        return time(
                List.of(new Contender(backend, Optional.of(kernel)), new Contender(backend, Optional.empty())),
                options,
                cases,
                schedule,
                limit,
                progress);
    }

    /**
     * Opens a backend, with the kernels of a file where there is one.
     *
     * @param op stem of the op that they are of
     * @throws FormatException when the file cannot be read
     * @throws DeviceException as {@link Backend.Provider#open}
     */
    public static Backend open(String backend, Backend.Options options, String op, Optional<Path> kernel) {
        Backend.Provider provider = Backends.find(backend);
        return kernel.map(file -> provider.open(options, read(op, file))).orElseGet(() -> provider.open(options));
    }

    private static UserKernel read(String op, Path file) {
        try {
            if (Files.size(file) > LONGEST_KERNEL) {
                throw new FormatException(file + " is longer than the " + LONGEST_KERNEL
                        + " bytes that a kernel may have: give its source alone");
            }
            return new UserKernel(op, file.getFileName().toString(), Files.readString(file));
        } catch (IOException e) {
            throw new FormatException(file + " cannot be read as text (" + e + "): give the source of a kernel", e);
        }
    }

    /** Kernels that are timed: a backend's own, or those of a file. */
    private record Contender(String backend, Optional<Path> kernel) {
        String label() {
            return kernel.map(file -> backend + " " + file.getFileName()).orElse(backend);
        }
    }

    private static BenchReport time(
            List<Contender> contenders,
            Backend.Options options,
            List<OpCase> cases,
            Harness.Schedule schedule,
            double limit,
            Progress progress) {
        Harness harness = ServiceLoader.load(Harness.class)
                .findFirst()
                .orElseThrow(
                        () -> new RunException("the benchmarks are not on the class path, only the library is: start"
                                + " bin/sentei in a folder where mvn -B package has run"));
        Instant started = Instant.now();
        List<Trial> trials = new ArrayList<>();
        for (Contender contender : contenders) {
            trials.add(prepare(contender, options, cases, progress));
        }
        long total = trials.stream().mapToLong(trial -> trial.cases().size()).sum() * schedule.total();
        List<BenchReport.Device> devices = new ArrayList<>();
        List<BenchReport.Result> results = new ArrayList<>();
        List<BenchReport.Failure> failures = new ArrayList<>();
        long done = 0;
        for (Trial trial : trials) {
            Contender contender = trial.contender();
            List<Timed> timed = new ArrayList<>();
            for (OpCase opCase : trial.cases()) {
                double seconds = started.until(Instant.now(), ChronoUnit.MILLIS) / 1e3;
                if (!(seconds < limit)) {
                    failures.add(BenchReport.Failure.of(opCase, contender.label(), "the time was over"));
                    continue;
                }
                try {
                    double worst = worstError(contender, options, opCase, progress);
                    Harness.Request request = new Harness.Request(
                            contender.backend(),
                            options.device(),
                            options.threads(),
                            opCase.name(),
                            contender.kernel(),
                            schedule);
                    timed.add(new Timed(opCase, harness.measure(request, part(progress, done, total)), worst));
                } catch (DeviceException | RunException e) {
                    failures.add(BenchReport.Failure.of(opCase, contender.label(), e.getMessage()));
                }
                done += schedule.total();
            }
            Ceilings ceilings = trial.ceilings();
            if (ceilings != null && !timed.isEmpty()) {
                try (Backend open = Backends.find(contender.backend()).open(options)) {
                    ceilings = open.ceilings().map(ceilings::or).orElse(ceilings);
                }
            }
            devices.add(BenchReport.Device.of(trial.info(), ceilings));
            for (Timed one : timed) {
                results.add(BenchReport.Result.of(
                        one.opCase(), contender.label(), one.measured(), one.worstError(), ceilings));
            }
        }
        return new BenchReport(
                Version.current(),
                started.truncatedTo(ChronoUnit.SECONDS).toString(),
                started.until(Instant.now(), ChronoUnit.MILLIS) / 1e3,
                options.threads(),
                schedule,
                devices,
                results,
                failures);
    }

    /** A backend that is right, what it has, and the speed of its device before it is timed; ceilings may be null. */
    private record Trial(Contender contender, DeviceInfo info, List<OpCase> cases, Ceilings ceilings) {}

    private record Timed(OpCase opCase, Harness.Measurement measured, double worstError) {}

    private static Trial prepare(Contender contender, Backend.Options options, List<OpCase> cases, Progress progress) {
        String name = contender.label();
        String op = Op.stem(cases.getFirst().op());
        try (Backend reference = Backends.find(REFERENCE).open(new Backend.Options(0, options.threads()));
                Backend backend = open(contender.backend(), options, op, contender.kernel())) {
            List<OpCase> supported = cases.stream()
                    .filter(opCase -> backend.supports(OpCases.unbacked(opCase)))
                    .toList();
            if (supported.isEmpty()) {
                throw unsupported(name, "it has none of the ops to time");
            }
            if (!name.equals(REFERENCE)) {
                Conformance conformance = new Conformance(backend, reference);
                for (OpCase opCase : OpCases.all()) {
                    if (supported.stream().anyMatch(one -> one.op().equals(opCase.op()))) {
                        progress.stopIfCancelled("checking " + name);
                        refuse(name, conformance.check(opCase, SEED));
                    }
                }
            }
            DeviceInfo info = backend.info();
            return new Trial(
                    contender,
                    new DeviceInfo(name, info.device(), info.driver(), info.memoryBytes(), info.isa()),
                    supported,
                    backend.ceilings().orElse(null));
        }
    }

    /** A fast wrong kernel must not win: how far the very case is from the reference, in units of what is allowed. */
    private static double worstError(Contender contender, Backend.Options options, OpCase opCase, Progress progress) {
        String name = contender.label();
        if (name.equals(REFERENCE)) {
            return 0;
        }
        progress.stopIfCancelled("checking " + name);
        try (Backend reference = Backends.find(REFERENCE).open(new Backend.Options(0, options.threads()));
                Backend backend = open(contender.backend(), options, Op.stem(opCase.op()), contender.kernel())) {
            Conformance.Result result = new Conformance(backend, reference).checkSample(opCase, SEED);
            refuse(name, result);
            return result.worstError();
        }
    }

    private static void refuse(String name, Conformance.Result result) {
        result.failure().ifPresent(failure -> {
            throw unsupported(name, "it computes wrong: " + failure);
        });
    }

    private static DeviceException unsupported(String backend, String reason) {
        return new DeviceException(backend, "timing ops", 0, reason, DeviceException.Kind.UNSUPPORTED);
    }

    private static Progress part(Progress whole, long before, long total) {
        return new Progress() {
            @Override
            public void advanced(String stage, long done, long ofPart) {
                whole.advanced(stage, before + done, total);
            }

            @Override
            public boolean cancelled() {
                return whole.cancelled();
            }
        };
    }
}

package org.sentei.cli;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.concurrent.CancellationException;
import java.util.function.BooleanSupplier;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.Conformance;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.DeviceInfo;
import org.sentei.kernel.Op;
import org.sentei.kernel.OpCase;
import org.sentei.kernel.OpCases;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code sentei doctor}: what this machine can compute on, and whether it computes right. */
@Command(
        name = "doctor",
        description =
                "Shows every backend, or why it is not available, and checks all kernels of the available ones against"
                        + " the reference. Exit code 4 if an available backend is wrong.",
        footer = {"", "Example: check the native kernels with four threads", "  sentei doctor --backend cpu --threads 4"
        })
final class DoctorCommand implements Callable<Integer> {
    private final Terminal terminal;
    private final BooleanSupplier cancelled;

    @Mixin
    private CommonOptions common;

    @Mixin
    private ComputeOptions compute;

    @Option(
            names = "--seed",
            paramLabel = "N",
            defaultValue = "1",
            description = "Seed of the test data. Default: ${DEFAULT-VALUE}.")
    private long seed;

    DoctorCommand(Terminal terminal, BooleanSupplier cancelled) {
        this.terminal = terminal;
        this.cancelled = cancelled;
    }

    record Diagnosis(List<Health> backends) {}

    /**
     * @param worstError largest error in units of what the tolerance allows; null when unavailable or a case failed
     * @param cases conformance cases run
     */
    record Health(
            String name,
            boolean available,
            String reason,
            String device,
            String driver,
            Long memoryBytes,
            String isa,
            Double worstError,
            int cases,
            List<OpHealth> ops,
            List<String> failures) {
        static Health unavailable(String name, String reason) {
            return new Health(name, false, reason, null, null, null, null, null, 0, List.of(), List.of());
        }
    }

    /** Worst error of one op. */
    record OpHealth(String op, int cases, Double worstError) {}

    @Override
    public Integer call() {
        Backend.Options options = compute.options(common);
        boolean all = compute.backend.equals(Backends.AUTO);
        if (!all) {
            compute.check();
        }
        List<Health> found = new ArrayList<>();
        List<Backend.Provider> providers = Backends.providers();
        for (String name : ComputeOptions.BACKENDS) {
            if (name.equals(Backends.AUTO) || !(all || name.equals(compute.backend))) {
                continue;
            }
            Optional<Backend.Provider> provider =
                    providers.stream().filter(one -> one.name().equals(name)).findFirst();
            Health health = provider.isPresent()
                    ? examine(provider.get(), options)
                    : Health.unavailable(name, "this version does not have it yet");
            found.add(health);
            if (!common.json) {
                print(health);
            }
        }
        if (common.json) {
            Json.print(terminal, new Diagnosis(found));
        }
        return found.stream().allMatch(health -> health.failures().isEmpty()) ? ExitCode.OK : ExitCode.BACKEND;
    }

    private Health examine(Backend.Provider provider, Backend.Options options) {
        Backend.Options first = new Backend.Options(0, options.threads());
        try {
            Optional<String> reason = provider.unavailableBecause();
            if (reason.isPresent()) {
                return Health.unavailable(provider.name(), reason.get());
            }
        } catch (DeviceException setting) {
            return Health.unavailable(provider.name(), setting.getMessage());
        }
        try (Backend reference = Backends.find("reference").open(first);
                Backend candidate = provider.open(options);
                ProgressBar progress = new ProgressBar(terminal, cancelled)) {
            return examine(candidate, new Conformance(candidate, reference), progress);
        } catch (DeviceException failed) {
            if (failed.kind() == DeviceException.Kind.UNSUPPORTED) {
                return Health.unavailable(provider.name(), failed.getMessage());
            }
            throw failed;
        }
    }

    private Health examine(Backend candidate, Conformance conformance, ProgressBar progress) {
        DeviceInfo info = candidate.info();
        Map<String, OpHealth> ops = new LinkedHashMap<>();
        List<String> failures = new ArrayList<>();
        List<OpCase> cases = OpCases.all();
        for (int i = 0; i < cases.size(); i++) {
            if (cancelled.getAsBoolean()) {
                throw new CancellationException("interrupted while checking " + info.backend());
            }
            OpCase opCase = cases.get(i);
            Conformance.Result result = conformance.check(opCase, seed);
            result.failure().ifPresent(failures::add);
            String op = Op.stem(opCase.op());
            OpHealth before = ops.getOrDefault(op, new OpHealth(op, 0, 0.0));
            Double worst = before.worstError() == null || result.failure().isPresent()
                    ? null
                    : Double.valueOf(Math.max(before.worstError(), result.worstError()));
            ops.put(op, new OpHealth(op, before.cases() + 1, worst));
            progress.advanced(info.backend() + ": " + op, i + 1, cases.size());
        }
        Double worst = failures.isEmpty()
                ? ops.values().stream().mapToDouble(OpHealth::worstError).max().orElse(0)
                : null;
        return new Health(
                info.backend(),
                true,
                null,
                info.device(),
                info.driver(),
                info.memoryBytes(),
                info.isa(),
                worst,
                cases.size(),
                List.copyOf(ops.values()),
                failures);
    }

    private void print(Health health) {
        if (!health.available()) {
            terminal.out().printf("%-10s not available: %s%n", health.name(), health.reason());
            return;
        }
        String verdict = health.failures().isEmpty()
                ? "ok"
                : health.failures().size() + " of " + health.cases() + " cases WRONG";
        terminal.out().printf("%-10s %s%n", health.name(), verdict);
        terminal.out().printf("  device   %s%s%n", health.device(), health.isa().isEmpty() ? "" : ", " + health.isa());
        terminal.out().printf("  driver   %s%n", health.driver());
        terminal.out().printf(Locale.ROOT, "  memory   %.1f GiB%n", health.memoryBytes() / 0x1p30);
        terminal.out()
                .printf(
                        "  kernels  %d cases against the reference; error in units of the tolerance:%n",
                        health.cases());
        for (OpHealth op : health.ops()) {
            String worst = op.worstError() == null ? "WRONG" : String.format(Locale.ROOT, "%.3f", op.worstError());
            terminal.out().printf("           %-20s %8s  (%d cases)%n", op.op(), worst, op.cases());
        }
        health.failures().forEach(failure -> terminal.out().println("  wrong    " + failure));
    }
}

package org.sentei.cli;

import java.util.List;
import org.sentei.engine.recipe.Nearest;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** Options of commands that compute: what to compute on. */
final class ComputeOptions {
    static final List<String> BACKENDS = List.of("auto", "reference", "cpu", "cuda", "opencl");

    /** More than any machine has processors for one process, far fewer than would exhaust it. */
    private static final int MOST_THREADS = 1024;

    @Spec(Spec.Target.MIXEE)
    private CommandSpec command;

    @Option(
            names = "--backend",
            paramLabel = "NAME",
            defaultValue = "auto",
            description = "auto, reference, cpu, cuda or opencl. Default: ${DEFAULT-VALUE}, the fastest available.")
    String backend;

    @Option(
            names = "--device",
            paramLabel = "N",
            defaultValue = "0",
            description = "Index of the device. Default: ${DEFAULT-VALUE}.")
    int device;

    @Option(
            names = "--device-memory",
            paramLabel = "BYTES",
            description = "Hold at most so much memory on the device at once. Default: all that it has.")
    private Long deviceMemory;

    /** The device and threads to open it with. */
    Backend.Options options(CommonOptions common) {
        if (device < 0) {
            throw new ParameterException(command.commandLine(), "--device " + device + ": an index is 0 or more");
        }
        if (common.threads != null && (common.threads < 1 || common.threads > MOST_THREADS)) {
            throw new ParameterException(
                    command.commandLine(), "--threads " + common.threads + ": give 1 to " + MOST_THREADS);
        }
        int threads = common.threads == null ? Runtime.getRuntime().availableProcessors() : common.threads;
        if (deviceMemory != null && deviceMemory < 1) {
            throw new ParameterException(
                    command.commandLine(), "--device-memory " + deviceMemory + ": give a number of bytes above 0");
        }
        Backend.Options all = new Backend.Options(device, threads);
        return deviceMemory == null ? all : all.withMemory(deviceMemory);
    }

    /** Says which faster backends are passed over; for commands without a plan, whose warnings say it too. */
    void warn(Terminal terminal) {
        Backends.passedOver(backend).forEach(reason -> terminal.err().println("warning: " + reason));
    }

    /**
     * Looks whether the backend is there; called before any input is read.
     *
     * @throws ParameterException for a name that no version of Sentei has,
     * @throws org.sentei.kernel.DeviceException UNSUPPORTED when it is not available
     */
    void check() {
        if (!BACKENDS.contains(backend)) {
            throw new ParameterException(
                    command.commandLine(),
                    "--backend " + backend + ": there is no such backend; the nearest is "
                            + Nearest.to(backend, BACKENDS) + " (of " + String.join(", ", BACKENDS) + ")");
        }
        Backends.find(backend);
    }
}

package org.sentei.backend.gpu;

import java.lang.foreign.MemorySegment;
import java.util.List;
import org.sentei.backend.gpu.Launch.Argument;
import org.sentei.kernel.Ceilings;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;

/**
 * Measures a device by the kernels of {@code probe.inc}. How much they do at a time grows until it can be timed, or fills the
 * fastest devices: between these and an emulated one lie four orders of magnitude.
 */
final class Probe {
    /** Quads of four floats that a work-item moves: EACH of {@code probe.inc}. */
    static final int EACH = 8;
    /** Multiply-adds of a work-item and round: CHAINS of {@code probe.inc}. */
    static final int CHAINS = 64;

    private static final int ROUNDS = 64;
    private static final long GROUP_ELEMENTS = 4L * EACH * Launch.GROUP;

    private static final int LEAST_GROUPS = 1 << 4;
    /** A matrix of 1 GiB: beyond every cache, and some tenths of a millisecond for the fastest memory. */
    private static final int MOST_GROUPS = 1 << 15;
    /** What part of the device's memory a matrix may take. */
    private static final long SHARE = 8;

    /** A launch does enough when it takes so long. */
    private static final double ENOUGH_SECONDS = 0.02;
    /** So many launches as take this long are waited for together. */
    private static final double SAMPLE_SECONDS = 0.005;

    private static final int MOST_LAUNCHES = 64;
    private static final int SAMPLES = 5;
    private static final double LEAST_SECONDS = 0.3;

    private final GpuBackend backend;
    private final GpuDevice device;

    private Probe(GpuBackend backend, GpuDevice device) {
        this.backend = backend;
        this.device = device;
    }

    static Ceilings measure(GpuBackend backend, GpuDevice device) {
        try (Scope scope = new Scope(backend)) {
            return new Probe(backend, device).measure(scope);
        }
    }

    private Ceilings measure(Scope scope) {
        View total = scope.matrix(1, 2);
        backend.copyIn(MemorySegment.ofArray(new float[] {0.5f, 1}), total);
        int groups = LEAST_GROUPS;
        while (groups < MOST_GROUPS && seconds(fma(total, groups), 1) < ENOUGH_SECONDS) {
            groups *= 2;
        }
        double operations = 2.0 * ROUNDS * CHAINS * Launch.GROUP * groups / fastest(fma(total, groups));

        long most = Math.clamp(
                device.info().memoryBytes() / SHARE / (GROUP_ELEMENTS * Float.BYTES), LEAST_GROUPS, MOST_GROUPS);
        long room = LEAST_GROUPS;
        View x = filled(scope, room);
        while (room < most && seconds(read(x, total), 1) < ENOUGH_SECONDS) {
            room = Math.min(most, 4 * room);
            x = filled(scope, room);
        }
        View y = filled(scope, room);
        return new Ceilings(x.bytes() / fastest(read(x, total)), 2.0 * x.bytes() / fastest(copy(x, y)), operations);
    }

    private View filled(Scope scope, long groups) {
        View x = scope.matrix(1, groups * GROUP_ELEMENTS);
        device.launch(fill(x));
        return x;
    }

    /** Seconds of the fastest of many launches. */
    private double fastest(Launch launch) {
        double once = seconds(launch, 1);
        int launches = (int) Math.clamp(SAMPLE_SECONDS / once, 1, MOST_LAUNCHES);
        double best = Double.POSITIVE_INFINITY;
        double spent = 0;
        for (int samples = 0; samples < SAMPLES || spent < LEAST_SECONDS; samples++) {
            double seconds = seconds(launch, launches);
            spent += seconds;
            best = Math.min(best, seconds / launches);
        }
        return best;
    }

    /** Seconds of so many launches, waited for together. */
    private double seconds(Launch launch, int times) {
        device.sync();
        long began = System.nanoTime();
        for (int i = 0; i < times; i++) {
            device.launch(launch);
        }
        device.sync();
        return (System.nanoTime() - began) / 1e9;
    }

    private Launch fill(View x) {
        return launch("probe_fill_f32", groups(x), matrix(x));
    }

    private Launch read(View x, View total) {
        return launch("probe_read_f32", groups(x), matrix(x), matrix(total));
    }

    private Launch copy(View x, View y) {
        return launch("probe_copy_f32", groups(x), matrix(x), matrix(y));
    }

    private Launch fma(View total, int groups) {
        return launch("probe_fma_f32", groups, new Argument.Int32(ROUNDS), matrix(total));
    }

    private static int groups(View x) {
        return Math.toIntExact(x.elements() / GROUP_ELEMENTS);
    }

    private static Launch launch(String entry, int groups, Argument... arguments) {
        return new Launch("probe", entry, false, groups, List.of(arguments));
    }

    private Argument matrix(View view) {
        return new Argument.Matrix(GpuBuffer.handle(backend, view), 0, 0);
    }
}

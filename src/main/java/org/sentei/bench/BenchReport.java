package org.sentei.bench;

import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.List;
import java.util.Map;
import org.sentei.kernel.Ceilings;
import org.sentei.kernel.DeviceInfo;
import org.sentei.kernel.Op;
import org.sentei.kernel.OpCase;
import org.sentei.kernel.OpCases;
import org.sentei.kernel.View;

/**
 * What {@code sentei bench} found: {@code bench.json}, keys in snake case.
 *
 * @param sentei version
 * @param started ISO time
 * @param seconds the whole run
 * @param threads host threads that ops were computed with
 * @param failures cases that were not timed
 */
public record BenchReport(
        String sentei,
        String started,
        double seconds,
        int threads,
        Harness.Schedule schedule,
        List<Device> backends,
        List<Result> results,
        List<Failure> failures) {

    /**
     * A backend and its measured ceilings, which are null where speed is not the point of it.
     *
     * @param readBandwidth bytes a second
     * @param copyBandwidth bytes a second, read and written
     * @param operationRate fp32 operations a second
     */
    public record Device(
            String name,
            String device,
            String driver,
            String isa,
            Double readBandwidth,
            Double copyBandwidth,
            Double operationRate) {
        static Device of(DeviceInfo info, Ceilings ceilings) {
            return new Device(
                    info.backend(),
                    info.device(),
                    info.driver(),
                    info.isa(),
                    ceilings == null ? null : Double.valueOf(ceilings.readBandwidth()),
                    ceilings == null ? null : Double.valueOf(ceilings.copyBandwidth()),
                    ceilings == null ? null : Double.valueOf(ceilings.operations()));
        }

        /** Null when not measured. */
        Ceilings ceilings() {
            return readBandwidth == null || copyBandwidth == null || operationRate == null
                    ? null
                    : new Ceilings(readBandwidth, copyBandwidth, operationRate);
        }
    }

    /**
     * One case on one backend.
     *
     * @param label the case within its op
     * @param time mean seconds of one run
     * @param error half of the 99.9 % confidence interval of {@code time}, null when too few iterations tell
     * @param samples iterations that counted
     * @param worstError largest difference from the reference, which computes in fp64, in units of what is allowed
     * @param bytesRead bytes that the op must read at least
     * @param bytesWritten bytes that the op must write at least
     * @param operations arithmetic operations, a multiply-add counted as two
     * @param bandwidth bytes read and written a second
     * @param operationRate operations a second
     * @param ceilingTime least seconds by the measured ceilings, null without them
     * @param ceilingPercent {@code 100 * ceilingTime / time}
     * @param limit {@code memory} or {@code compute}, whichever ceiling is nearer
     * @param profile figures of the profilers by label
     */
    public record Result(
            String op,
            @JsonProperty("case") String label,
            String backend,
            double time,
            Double error,
            long samples,
            double worstError,
            long bytesRead,
            long bytesWritten,
            long operations,
            double bandwidth,
            double operationRate,
            Double ceilingTime,
            Double ceilingPercent,
            String limit,
            Map<String, Harness.Profiled> profile) {

        static Result of(
                OpCase opCase, String backend, Harness.Measurement measured, double worstError, Ceilings ceilings) {
            Op op = OpCases.unbacked(opCase);
            long written = op.writes().stream().mapToLong(View::bytes).sum();
            long read = op.bytes() - written;
            double time = measured.seconds();
            Double least = ceilings == null ? null : Double.valueOf(ceilings.seconds(read, written, op.operations()));
            return new Result(
                    op.name(),
                    opCase.label(),
                    backend,
                    time,
                    Double.isFinite(measured.error()) ? measured.error() : null,
                    measured.samples(),
                    worstError,
                    read,
                    written,
                    op.operations(),
                    op.bytes() / time,
                    op.operations() / time,
                    least,
                    least == null ? null : Double.valueOf(100 * least / time),
                    least == null ? null : ceilings.limit(read, written, op.operations()),
                    measured.profile());
        }

        /** The case as the catalogue names it. */
        public String name() {
            return op + "/" + label;
        }
    }

    /** A case that was not timed on a backend, and why. */
    public record Failure(String op, @JsonProperty("case") String label, String backend, String reason) {
        static Failure of(OpCase opCase, String backend, String reason) {
            return new Failure(Op.stem(opCase.op()), opCase.label(), backend, reason);
        }
    }
}

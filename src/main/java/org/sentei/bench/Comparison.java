package org.sentei.bench;

import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * Two results beside each other.
 *
 * @param before what the first result was measured on
 * @param after what the second result was measured on
 * @param cases those that both have, in the order of the first
 * @param onlyBefore names of those that only the first has
 * @param onlyAfter names of those that only the second has
 */
public record Comparison(
        List<BenchReport.Device> before,
        List<BenchReport.Device> after,
        List<Case> cases,
        List<String> onlyBefore,
        List<String> onlyAfter) {

    /** What can be said when the error intervals are looked at. */
    public enum Verdict {
        FASTER,
        SLOWER,
        /** The intervals overlap. */
        SAME,
        /** One of the results has no error: it had too few iterations. */
        UNKNOWN
    }

    /**
     * A case that both have.
     *
     * @param timeBefore seconds in the first
     * @param timeAfter seconds in the second
     * @param ratio {@code timeBefore / timeAfter}: above 1 the second is faster
     * @param ratioLow the least that the intervals of both times allow, null without them
     * @param ratioHigh the most that they allow, null without them or when there is no bound
     */
    public record Case(
            String op,
            String label,
            String backend,
            double timeBefore,
            Double errorBefore,
            double timeAfter,
            Double errorAfter,
            double ratio,
            Double ratioLow,
            Double ratioHigh,
            Verdict verdict) {
        static Case of(BenchReport.Result before, BenchReport.Result after) {
            Double low = null;
            Double high = null;
            Verdict verdict = Verdict.UNKNOWN;
            if (before.error() != null && after.error() != null) {
                low = Math.max(0, before.time() - before.error()) / (after.time() + after.error());
                double least = after.time() - after.error();
                high = least > 0 ? (before.time() + before.error()) / least : null;
                verdict = low > 1 ? Verdict.FASTER : high != null && high < 1 ? Verdict.SLOWER : Verdict.SAME;
            }
            return new Case(
                    before.op(),
                    before.label(),
                    before.backend(),
                    before.time(),
                    before.error(),
                    after.time(),
                    after.error(),
                    before.time() / after.time(),
                    low,
                    high,
                    verdict);
        }
    }

    public static Comparison of(BenchReport before, BenchReport after) {
        List<Case> cases = new ArrayList<>();
        List<String> onlyBefore = new ArrayList<>();
        for (BenchReport.Result result : before.results()) {
            find(after, result)
                    .ifPresentOrElse(twin -> cases.add(Case.of(result, twin)), () -> onlyBefore.add(name(result)));
        }
        List<String> onlyAfter = after.results().stream()
                .filter(result -> find(before, result).isEmpty())
                .map(Comparison::name)
                .toList();
        return new Comparison(before.backends(), after.backends(), cases, onlyBefore, onlyAfter);
    }

    private static Optional<BenchReport.Result> find(BenchReport report, BenchReport.Result twin) {
        return report.results().stream()
                .filter(result -> name(result).equals(name(twin)))
                .findFirst();
    }

    private static String name(BenchReport.Result result) {
        return result.name() + " on " + result.backend();
    }
}

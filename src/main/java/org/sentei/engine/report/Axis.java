package org.sentei.engine.report;

import java.util.List;
import java.util.Locale;
import java.util.stream.DoubleStream;
import java.util.stream.IntStream;

/**
 * The values that a chart's horizontal lines stand for.
 *
 * @param top of the chart, at least the highest value
 * @param lines from 0 to the top
 */
record Axis(double top, List<Double> lines) {
    private static final int MOST_LINES = 6;
    private static final double[] STEPS = {1, 2, 5, 10};

    /** Colours and letters of charts that are files of their own. */
    static final String STYLE = """
            svg { --paper: #ffffff; --ink: #1c2722; --soft: #5d6b64; --rule: #e3e1d8;
              --c0: #8b938f; --c1: #b06d10; --c2: #4d74d6; --c3: #8a63b8; --c4: #16808b; --c5: #c4533b;
              font: 13px system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
            @media (prefers-color-scheme: dark) {
              svg { --paper: #161c19; --ink: #e8ece9; --soft: #98a59e; --rule: #2c3531; --c0: #79827d; --c1: #e8b054;
                --c2: #8facf5; --c3: #bb9ce3; --c4: #5fcbd4; --c5: #ee8d77; }
            }
            .paper { fill: var(--paper); } text { fill: var(--ink); } .soft { fill: var(--soft); }
            .title { font-size: 15px; font-weight: 600; } .middle { text-anchor: middle; } .end { text-anchor: end; }
            .grid { stroke: var(--rule); } .line { stroke-width: 2; fill: none; } .bar { stroke-width: 1; }
            .s0 { stroke: var(--c0); } .s1 { stroke: var(--c1); } .s2 { stroke: var(--c2); } .s3 { stroke: var(--c3); }
            .s4 { stroke: var(--c4); } .s5 { stroke: var(--c5); } .f0 { fill: var(--c0); } .f1 { fill: var(--c1); }
            .f2 { fill: var(--c2); } .f3 { fill: var(--c3); } .f4 { fill: var(--c4); } .f5 { fill: var(--c5); }
            """;

    /** From 0 to a little above the highest value, in round steps. */
    static Axis upTo(double highest) {
        double power = highest > 0 ? Math.pow(10, Math.floor(Math.log10(highest / MOST_LINES))) : 1;
        double step = DoubleStream.of(STEPS)
                .map(each -> each * power)
                .filter(each -> highest <= each * MOST_LINES)
                .findFirst()
                .orElseThrow();
        int count = Math.max(1, (int) Math.ceil(highest / step));
        return new Axis(
                count * step,
                IntStream.rangeClosed(0, count).mapToObj(line -> line * step).toList());
    }

    /** A value with as many digits as tell it from its neighbours. */
    static String label(double value) {
        String text = String.format(Locale.ROOT, "%.4f", value).replaceAll("0+$", "");
        return text.endsWith(".") ? text.substring(0, text.length() - 1) : text;
    }
}

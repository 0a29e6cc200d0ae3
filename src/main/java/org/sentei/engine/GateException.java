package org.sentei.engine;

import org.sentei.engine.report.Report;

/** The result missed a quality gate of the recipe. The message names the gate, the figure and where the output is. */
public final class GateException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private final transient Report report;

    /** With what was missed, and the report of the run. */
    public GateException(String message, Report report) {
        super(message);
        this.report = report;
    }

    /** What was done and measured; null after serialization. */
    public Report report() {
        return report;
    }
}

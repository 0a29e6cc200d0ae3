package org.sentei.cli;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.concurrent.CancellationException;
import org.sentei.engine.GateException;
import org.sentei.engine.RunException;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.format.FormatException;
import org.sentei.kernel.DeviceException;
import org.sentei.model.ModelException;

/** What the process ends with; scripts rely on the numbers. */
final class ExitCode {
    static final int OK = 0;
    static final int BUG = 1;
    static final int SYNTAX = 2;
    static final int INPUT = 3;
    static final int BACKEND = 4;
    static final int GATE = 5;
    static final int RUN_FAILED = 6;

    private static final String REPORT_BUGS_AT = "the project's issue tracker";

    private ExitCode() {}

    /** What the user hears of a failure. */
    static String message(Throwable failure) {
        String message = failure.getMessage() == null ? failure.getClass().getSimpleName() : failure.getMessage();
        return switch (failure) {
            case OutOfMemoryError heap ->
                "the Java heap is full (" + message + "): give it more, for example SENTEI_OPTS=-Xmx8g";
            case Throwable other
            when of(failure) == BUG ->
                "internal error, " + other.getClass().getSimpleName() + ": " + message
                        + "; this is a bug, please report it to " + REPORT_BUGS_AT
                        + " with the output of the same command and -v";
            default -> message;
        };
    }

    static int of(Throwable failure) {
        return switch (failure) {
            case FormatException format -> INPUT;
            case ModelException model -> INPUT;
            case RecipeException recipe -> INPUT;
            case DeviceException device ->
                switch (device.kind()) {
                    case UNSUPPORTED -> BACKEND;
                    case OUT_OF_MEMORY, COMPILE, LAUNCH, LOST -> RUN_FAILED;
                    case INTERNAL -> BUG;
                };
            case GateException gate -> GATE;
            case RunException run -> RUN_FAILED;
            case CancellationException cancelled -> RUN_FAILED;
            case IOException io -> RUN_FAILED;
            case UncheckedIOException io -> RUN_FAILED;
            case OutOfMemoryError heap -> RUN_FAILED;
            default -> BUG;
        };
    }
}

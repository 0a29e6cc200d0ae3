package org.sentei.kernel;

import java.util.Locale;

/** {@link Op#stem} of every record, kept: each run of an op asks for it. */
final class OpStems extends ClassValue<String> {
    static final OpStems OF = new OpStems();

    private OpStems() {}

    @Override
    protected String computeValue(Class<?> op) {
        return op.getSimpleName().replaceAll("(?<=[a-z0-9])(?=[A-Z])", "_").toLowerCase(Locale.ROOT);
    }
}

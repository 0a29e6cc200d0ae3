package org.sentei.backend.cpu;

import java.util.Locale;
import java.util.Optional;

/** Process-wide settings of this backend: a system property, or else the environment variable of the same words. */
final class Settings {
    /** Directory for native libraries. */
    static final String NATIVE_DIR = "sentei.native.dir";
    /** Highest instruction-set tier to use. */
    static final String MAX_ISA = "sentei.max.isa";

    private Settings() {}

    static Optional<String> find(String property) {
        return Optional.ofNullable(System.getProperty(property))
                .or(() -> Optional.ofNullable(System.getenv(environmentName(property))))
                .filter(value -> !value.isEmpty());
    }

    /** For example {@code SENTEI_NATIVE_DIR}. */
    static String environmentName(String property) {
        return property.toUpperCase(Locale.ROOT).replace('.', '_');
    }
}

package org.sentei.platform;

import java.util.HashMap;
import java.util.Map;

/** Libraries that take their switches from system properties: how the rest of the process sets those is not ours to say. */
public final class SystemProperties {
    private SystemProperties() {}

    /**
     * What to do meanwhile.
     *
     * @param <T> what comes of it
     * @param <E> what may go wrong
     */
    @FunctionalInterface
    public interface Call<T, E extends Exception> {
        T run() throws E;
    }

    /** Makes a call while these properties are as given, and puts them back; one call at a time in the process. */
    public static synchronized <T, E extends Exception> T during(Map<String, String> properties, Call<T, E> call)
            throws E {
        Map<String, String> before = new HashMap<>();
        properties.forEach((name, value) -> before.put(name, System.setProperty(name, value)));
        try {
            return call.run();
        } finally {
            before.forEach((name, value) -> {
                if (value == null) {
                    System.clearProperty(name);
                } else {
                    System.setProperty(name, value);
                }
            });
        }
    }
}

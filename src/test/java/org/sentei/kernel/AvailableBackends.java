package org.sentei.kernel;

import java.util.List;

/** The backends that tests run on. */
public final class AvailableBackends {
    private AvailableBackends() {}

    /** Providers that can open a backend here; {@code ConformanceTest} fails when a required one is missing. */
    public static List<Backend.Provider> providers() {
        return Backends.providers().stream()
                .filter(provider -> provider.unavailableBecause().isEmpty())
                .toList();
    }

    /** Their names, for parametrized tests. */
    public static List<String> names() {
        return providers().stream().map(Backend.Provider::name).toList();
    }

    /** Opens one by name, with all threads. */
    public static Backend open(String name) {
        return Backends.find(name).open(Backend.Options.defaults());
    }
}

package org.sentei.kernel;

import java.util.Comparator;
import java.util.List;
import java.util.ServiceLoader;
import java.util.stream.Collectors;

/** Finds the backends beside this class: on its class path, or in its module layer. */
public final class Backends {
    /** The name that stands for the fastest backend that is available. */
    public static final String AUTO = "auto";

    private Backends() {}

    /** All registered providers, fastest first. */
    public static List<Backend.Provider> providers() {
        // Not by the thread's loader: in an application server that is whose request it happens to be, or nobody's.
        ClassLoader own = Backends.class.getClassLoader();
        return ServiceLoader.load(Backend.Provider.class, own).stream()
                .map(ServiceLoader.Provider::get)
                .sorted(Comparator.comparingInt(Backend.Provider::rank).reversed())
                .toList();
    }

    /**
     * The provider with this name, or for {@link #AUTO} the fastest that is available.
     *
     * @throws DeviceException UNSUPPORTED when there is none, or it is not available, with the reason
     */
    public static Backend.Provider find(String name) {
        List<Backend.Provider> providers = providers();
        if (name.equals(AUTO)) {
            return providers.stream()
                    .filter(provider -> provider.unavailableBecause().isEmpty())
                    .findFirst()
                    .orElseThrow(() -> unsupported(
                            AUTO,
                            "no backend is available: "
                                    + providers.stream()
                                            .map(provider -> provider.name() + ": "
                                                    + provider.unavailableBecause()
                                                            .orElseThrow())
                                            .collect(Collectors.joining("; "))));
        }
        Backend.Provider found = providers.stream()
                .filter(provider -> provider.name().equals(name))
                .findFirst()
                .orElseThrow(() -> unsupported(
                        name,
                        "this version does not have it; it has "
                                + providers.stream().map(Backend.Provider::name).collect(Collectors.joining(", "))));
        found.unavailableBecause().ifPresent(reason -> {
            throw unsupported(name, reason);
        });
        return found;
    }

    /**
     * What {@link #AUTO} passes over: for each backend that is faster than the one it finds and whose device seems to be
     * here, the name and why it is not available. Empty for every other name.
     */
    public static List<String> passedOver(String name) {
        if (!name.equals(AUTO)) {
            return List.of();
        }
        return providers().stream()
                .takeWhile(provider -> provider.unavailableBecause().isPresent())
                .filter(Backend.Provider::isExpected)
                .map(provider -> "the faster backend " + provider.name() + " is not available: "
                        + provider.unavailableBecause().orElseThrow())
                .toList();
    }

    private static DeviceException unsupported(String backend, String reason) {
        return new DeviceException(backend, "opening the backend", 0, reason, DeviceException.Kind.UNSUPPORTED);
    }
}

package org.sentei.engine;

import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import org.sentei.engine.recipe.Recipe;
import org.sentei.kernel.DeviceInfo;

/**
 * Everything that the bytes of a result depend on, by name: runs with equal fingerprints decide alike. The number of threads
 * is not in it where results do not depend on it.
 */
public record Fingerprint(Map<String, String> fields) {
    private static final String ABSENT = "nothing";

    /** Copies the map. */
    public Fingerprint {
        fields = Map.copyOf(fields);
    }

    /** The fields that say on which device results come about. */
    public static Map<String, String> fields(DeviceInfo device) {
        return Map.of(
                "backend", device.backend(),
                "backend.device", device.device(),
                "backend.driver", device.driver(),
                "backend.isa", device.isa());
    }

    /** The fingerprint of a run of this recipe on this device, with what else counts. */
    static Fingerprint of(Map<String, String> others, Recipe recipe, DeviceInfo device) {
        Map<String, String> fields = new HashMap<>(others);
        fields.put("sentei", Version.current());
        fields.put("recipe.seed", Long.toString(recipe.seed()));
        fields.put("recipe.steps", recipe.steps().toString());
        fields.put("recipe.easier", recipe.easier().toString());
        fields.put("recipe.quantize", recipe.quantize().toString());
        fields.put("recipe.images", recipe.images().toString());
        fields.put("recipe.calibration", recipe.calibration().toString());
        fields.put("recipe.storage", recipe.storage().toString());
        fields.put("recipe.quality", recipe.quality().toString());
        fields.putAll(fields(device));
        return new Fingerprint(fields);
    }

    /** In words, the first field in which the other differs; empty when none does. */
    public Optional<String> difference(Fingerprint other) {
        Set<String> names = new TreeSet<>(fields.keySet());
        names.addAll(other.fields.keySet());
        return names.stream()
                .filter(name -> !value(name).equals(other.value(name)))
                .findFirst()
                .map(name -> name + " was " + other.value(name) + " there and is " + value(name) + " here");
    }

    private String value(String name) {
        return fields.getOrDefault(name, ABSENT);
    }
}

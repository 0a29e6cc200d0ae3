package org.sentei.model;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * What a model's configuration file says, as a typed view over its JSON values.
 *
 * <p>A key whose value is {@code null} counts as absent. Every getter throws a {@link ModelException} that names the file
 * and the key when the value is missing or of another kind; the overloads with a default throw only for another kind.
 */
public final class ModelConfig {
    private final String file;
    private final String prefix;
    private final Map<String, ?> values;

    /**
     * A view of a whole configuration.
     *
     * @param file where the values come from; named in errors
     * @param values JSON values: String, Number, Boolean, List, Map with String keys, or null; kept, not copied
     */
    public ModelConfig(String file, Map<String, ?> values) {
        this(file, "", values);
    }

    private ModelConfig(String file, String prefix, Map<String, ?> values) {
        this.file = file;
        this.prefix = prefix;
        this.values = values;
    }

    /** Where the values come from. */
    public String file() {
        return file;
    }

    /** Whether the key is there with the value {@code null}, which may mean something else than its absence. */
    public boolean isNull(String key) {
        return values.containsKey(key) && values.get(key) == null;
    }

    /** Whether the key has a value other than {@code null}. */
    public boolean contains(String key) {
        return values.get(key) != null;
    }

    /** An integer; a {@link ModelException} names the key that is absent or no integer of 32 bits. */
    public int getInt(String key) {
        long value = getLong(key);
        if (value != (int) value) {
            throw wrong(key, value, "an integer of 32 bits");
        }
        return (int) value;
    }

    /** As {@link #getInt(String)}, or a value for an absent key. */
    public int getInt(String key, int absent) {
        return contains(key) ? getInt(key) : absent;
    }

    /** An integer; a {@link ModelException} names the key that is absent or no integer of 64 bits. */
    public long getLong(String key) {
        return switch (present(key)) {
            case Integer value -> value.longValue();
            case Long value -> value;
            case Object value -> throw wrong(key, value, "an integer of 64 bits");
        };
    }

    /** As {@link #getLong(String)}, or a value for an absent key. */
    public long getLong(String key, long absent) {
        return contains(key) ? getLong(key) : absent;
    }

    /** A finite number. */
    public double getDouble(String key) {
        if (present(key) instanceof Number number && Double.isFinite(number.doubleValue())) {
            return number.doubleValue();
        }
        throw wrong(key, values.get(key), "a finite number");
    }

    /** As {@link #getDouble(String)}, or a value for an absent key. */
    public double getDouble(String key, double absent) {
        return contains(key) ? getDouble(key) : absent;
    }

    /** True or false; a {@link ModelException} names the key that is absent or neither. */
    public boolean getBoolean(String key) {
        if (present(key) instanceof Boolean value) {
            return value;
        }
        throw wrong(key, values.get(key), "true or false");
    }

    /** As {@link #getBoolean(String)}, or a value for an absent key. */
    public boolean getBoolean(String key, boolean absent) {
        return contains(key) ? getBoolean(key) : absent;
    }

    /** A string; a {@link ModelException} names the key that is absent or no string. */
    public String getString(String key) {
        if (present(key) instanceof String value) {
            return value;
        }
        throw wrong(key, values.get(key), "a string");
    }

    /** As {@link #getString(String)}, or a value for an absent key. */
    public String getString(String key, String absent) {
        return contains(key) ? getString(key) : absent;
    }

    /** The strings of a list; empty when the key is absent. */
    public List<String> getStrings(String key) {
        if (!contains(key)) {
            return List.of();
        }
        if (!(values.get(key) instanceof List<?> list)) {
            throw wrong(key, values.get(key), "a list of strings");
        }
        List<String> strings = new ArrayList<>(list.size());
        for (Object element : list) {
            if (!(element instanceof String string)) {
                throw wrong(key, list, "a list of strings");
            }
            strings.add(string);
        }
        return List.copyOf(strings);
    }

    /** The object under this key, itself a view whose errors name the whole path; empty when absent. */
    public Optional<ModelConfig> getObject(String key) {
        if (!contains(key)) {
            return Optional.empty();
        }
        if (!(values.get(key) instanceof Map<?, ?> map)) {
            throw wrong(key, values.get(key), "an object");
        }
        @SuppressWarnings("unchecked") // the constructor asks for JSON values, whose objects have String keys
        Map<String, ?> nested = (Map<String, ?>) map;
        return Optional.of(new ModelConfig(file, prefix + key + ".", nested));
    }

    private Object present(String key) {
        Object value = values.get(key);
        if (value == null) {
            throw new ModelException(file + " has no \"" + prefix + key + "\": the model needs it; add it or use the"
                    + " configuration that belongs to these weights");
        }
        return value;
    }

    private ModelException wrong(String key, Object value, String expected) {
        String shown = String.valueOf(value);
        return new ModelException(file + ": \"" + prefix + key + "\" must be " + expected + ", not "
                + (shown.length() > 60 ? shown.substring(0, 60) + "..." : shown));
    }
}

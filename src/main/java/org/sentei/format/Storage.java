package org.sentei.format;

import java.util.Locale;

/** How pruned weights lie in safetensors files. */
public enum Storage {
    /** As zeros in ordinary tensors: every reader of the format takes them. */
    DENSE,
    /** As the kept values and one bit a weight, see {@link BitmaskFile}: smaller, but for who knows it. */
    BITMASK;

    /** The name in recipes and reports. */
    public String key() {
        return name().toLowerCase(Locale.ROOT);
    }
}

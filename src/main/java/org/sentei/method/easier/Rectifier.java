package org.sentei.method.easier;

import java.util.List;
import java.util.Locale;
import org.sentei.model.graph.Layer;

/**
 * An activation that passes what is far above zero and stops what is far below: it is on, off, or at zero by the sign of what
 * goes in, and its entropy says whether it does anything.
 *
 * @param name of its last layer
 * @param input the value that goes in, which may have other readers
 * @param output the value that comes out
 * @param layers what it is spelled out as, in their order; nobody else reads what is between them
 * @param units where its units are
 */
public record Rectifier(String name, Kind kind, String input, String output, List<Layer> layers, Units units) {
    /** Copies the list. */
    public Rectifier {
        layers = List.copyOf(layers);
    }

    /** Which function it is. */
    public enum Kind {
        /** {@code max(x, 0)}. */
        RELU,
        /** {@code min(max(x, 0), 6)}; the upper bound is no state of its own. */
        RELU6,
        /** {@code x < 0 ? slope x : x}. */
        LEAKY_RELU,
        /** {@code x Phi(x)}. */
        GELU,
        /** GELU by tanh. */
        GELU_TANH,
        /** {@code x / (1 + e^-x)}. */
        SILU,
        /** {@code x min(max(x + 3, 0), 6) / 6}. */
        HARD_SWISH,
        /** Another function of this kind. */
        OTHER;

        /** The name in reports. */
        public String key() {
            return name().toLowerCase(Locale.ROOT).replace('_', '-');
        }
    }

    /** The axis along which units are counted. */
    public sealed interface Units {
        /**
         * Axis 1 of images, rows or volumes.
         *
         * @param spatial axes behind it
         */
        record Channels(int spatial) implements Units {}

        /** The last axis. */
        record Last() implements Units {}
    }
}

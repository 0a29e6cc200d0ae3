package org.sentei.model.graph;

import java.lang.foreign.MemorySegment;
import java.util.List;

/** A parameter of a layer. */
public sealed interface Attribute {
    /** A whole number. */
    record Whole(long value) implements Attribute {}

    /** A floating number. */
    record Decimal(float value) implements Attribute {}

    /** A text. */
    record Text(String value) implements Attribute {}

    /** Whole numbers. */
    record Wholes(List<Long> values) implements Attribute {
        /** Copies the list. */
        public Wholes {
            values = List.copyOf(values);
        }
    }

    /** Floating numbers. */
    record Decimals(List<Float> values) implements Attribute {
        /** Copies the list. */
        public Decimals {
            values = List.copyOf(values);
        }
    }

    /**
     * What is only carried through, such as a nested graph or a tensor.
     *
     * @param content in the form of the file's format
     */
    record Raw(MemorySegment content) implements Attribute {}
}

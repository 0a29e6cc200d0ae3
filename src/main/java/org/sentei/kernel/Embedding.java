package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * Row {@code ids[i]} of a table into row i of the output; with {@code accumulate} it is added.
 *
 * <p>An id outside the table is a LAUNCH failure on host backends; on devices the caller must have checked.
 *
 * @param table F32 entries x width
 * @param ids I32 1 x tokens
 * @param output F32 tokens x width
 */
public record Embedding(View table, View ids, View output, boolean accumulate) implements Op {
    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public Embedding {
        Check.dtype("embedding", "table", table, DType.F32);
        Check.shape("embedding", "ids", ids, DType.I32, 1, output.rows());
        Check.shape("embedding", "output", output, DType.F32, ids.cols(), table.cols());
        Check.apart("embedding", output, table, ids);
    }

    @Override
    public List<View> reads() {
        return accumulate ? List.of(table, ids, output) : List.of(table, ids);
    }

    @Override
    public List<View> writes() {
        return List.of(output);
    }

    @Override
    public long operations() {
        return accumulate ? output.elements() : 0;
    }

    /** Only the gathered rows cross the bus, not the table. */
    @Override
    public long bytes() {
        return ids.bytes() + (accumulate ? 3 : 2) * output.bytes();
    }
}

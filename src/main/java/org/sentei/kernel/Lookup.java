package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * Replaces 8-bit integers by entries of a table: any function of one, exact on every backend. An activation, a change of scale,
 * or the real values that integers stand for.
 *
 * @param x U8 or I8
 * @param table 1 x 256: what the lowest value of x's type becomes, then the next
 * @param y of the shape of x and the type of the table, U8, I8 or F32
 */
public record Lookup(View x, View table, View y) implements Op {
    /** Values that x can have. */
    public static final int ENTRIES = 256;

    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public Lookup {
        Check.that(x.dtype() == DType.U8 || x.dtype() == DType.I8, "lookup", "x must be U8 or I8, not " + x);
        Check.that(
                table.dtype() == DType.U8 || table.dtype() == DType.I8 || table.dtype() == DType.F32,
                "lookup",
                "the table must be U8, I8 or F32, not " + table);
        Check.shape("lookup", "the table", table, table.dtype(), 1, ENTRIES);
        Check.shape("lookup", "y", y, table.dtype(), x.rows(), x.cols());
        Check.apart("lookup", y, table);
        Check.that(
                !y.overlaps(x)
                        || (y.offset() == x.offset()
                                && y.stride() == x.stride()
                                && y.dtype().bytes() == 1),
                "lookup",
                "the output overlaps the input without being it");
    }

    @Override
    public List<View> reads() {
        return List.of(x, table);
    }

    @Override
    public List<View> writes() {
        return List.of(y);
    }

    @Override
    public long operations() {
        return y.elements();
    }
}

package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * Sums what a graph's nodes hear from their neighbours, {@code y_i = sum over edges e of node i: weight_e x_(neighbour_e)}: a
 * sparse matrix in compressed rows (CSR) times a dense one. A node without edges gets +0. A row's sum runs over its edges in
 * their order, so a result is the same bits every time; its gradient by x is the same op on the transposed graph.
 *
 * <p>Row starts and neighbours that do not fit are a LAUNCH failure; nothing outside of the views is read. A small graph that is
 * dense needs no edges: nodes in rows and the batch within a row, {@code A x} is a {@link Gemm}.
 *
 * @param starts I64 1 x nodes + 1: where the edges of a node begin, and behind the last node their number
 * @param neighbours I32 1 x edges: rows of x
 * @param weights F32 1 x edges
 * @param x F32 sources x features
 * @param y F32 nodes x features
 */
public record Aggregate(View starts, View neighbours, View weights, View x, View y) implements Op {
    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public Aggregate {
        Check.dtype("aggregate", "x", x, DType.F32);
        Check.dtype("aggregate", "y", y, DType.F32);
        Check.shape("aggregate", "y", y, DType.F32, y.rows(), x.cols());
        Check.shape("aggregate", "starts", starts, DType.I64, 1, y.rows() + 1);
        Check.shape("aggregate", "neighbours", neighbours, DType.I32, 1, weights.cols());
        Check.shape("aggregate", "weights", weights, DType.F32, 1, weights.cols());
        Check.apart("aggregate", y, starts, neighbours, weights, x);
    }

    /** The failure of a backend that met a row start or a neighbour outside of the graph. */
    public DeviceException broken(String backend) {
        return new DeviceException(
                backend,
                name(),
                0,
                "row starts and neighbours of the " + y.rows() + " nodes do not lie within the " + weights.cols()
                        + " edges and " + x.rows() + " rows of x; build the graph again from its edges",
                DeviceException.Kind.LAUNCH);
    }

    @Override
    public List<View> reads() {
        return List.of(starts, neighbours, weights, x);
    }

    @Override
    public List<View> writes() {
        return List.of(y);
    }

    @Override
    public long operations() {
        return 2 * weights.cols() * x.cols();
    }

    /** Of x at least every row that an edge leads from crosses the bus, at most once an edge. */
    @Override
    public long bytes() {
        return starts.bytes()
                + neighbours.bytes()
                + weights.bytes()
                + y.bytes()
                + Math.min(x.rows(), weights.cols()) * x.cols() * Float.BYTES;
    }
}

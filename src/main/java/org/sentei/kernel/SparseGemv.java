package org.sentei.kernel;

import java.util.ArrayList;
import java.util.List;
import org.sentei.tensor.BitmaskTensor;
import org.sentei.tensor.DType;

/**
 * {@link Gemv} with weights that are stored as kept values and a bit mask, as {@link BitmaskTensor} lays them out: fewer
 * bytes to read than of the dense matrix. Weights that are not kept count as +0, so the result is that of the dense
 * product, where {@code x} has infinities or NaN too.
 *
 * <p>A backend reads nothing outside of the views whatever mask and starts say, and fails when they do not agree.
 *
 * @param values 1 x kept, BF16 or F32, row after row
 * @param mask outputs x ceil(inputs / 8), U8: bit {@code i % 8} of byte {@code i / 8} is set where input i is kept; bits
 *     beyond the last input are ignored
 * @param starts 1 x outputs + 1, I64: where the values of a row begin, and behind the last row their number
 * @param x vectors x inputs, F32
 * @param bias 1 x outputs, F32, or null
 * @param y vectors x outputs, F32
 */
public record SparseGemv(View values, View mask, View starts, View x, View bias, View y) implements Op {
    public SparseGemv {
        long rows = y.cols();
        Gemv.check("sparse_gemv", values, "values", rows, x.cols(), x, bias, y);
        Check.that(values.rows() == 1, "sparse_gemv", "values must have one row, not " + values);
        Check.shape("sparse_gemv", "mask", mask, DType.U8, rows, Math.ceilDiv(x.cols(), 8));
        Check.shape("sparse_gemv", "starts", starts, DType.I64, 1, rows + 1);
        Check.apart("sparse_gemv", y, mask, starts);
    }

    /** The failure of a backend that met a row whose mask does not lead from its start to the start of the next. */
    public DeviceException broken(String backend) {
        return new DeviceException(
                backend,
                name(),
                0,
                "mask, row starts and number of kept values of the " + y.cols() + "x" + x.cols()
                        + " weights do not agree; pack them again from the dense tensor",
                DeviceException.Kind.LAUNCH);
    }

    @Override
    public List<View> reads() {
        List<View> views = new ArrayList<>(List.of(values, mask, starts, x));
        if (bias != null) {
            views.add(bias);
        }
        return views;
    }

    @Override
    public List<View> writes() {
        return List.of(y);
    }

    @Override
    public long operations() {
        return 2 * values.elements() * x.rows();
    }
}

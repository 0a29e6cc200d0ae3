package org.sentei.model.onnx;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.sentei.model.ModelException;
import org.sentei.model.TokenBatch;
import org.sentei.model.onnx.OnnxSession.Port;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** Feeds token windows to a transformer and returns one row a token, without the rows of padding. */
public final class OnnxEncoder {
    private static final ValueLayout.OfFloat FLOAT =
            ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final String IDS = "input_ids";
    private static final String MASK = "attention_mask";
    private static final String TYPES = "token_type_ids";

    private final OnnxSession session;
    /** Of the largest batch so far; null before the first. */
    private Outputs latest;

    /**
     * What one batch gave.
     *
     * @param first index of its first window
     * @param lengths tokens of each window
     * @param rows F32 values by name, all tokens of the first window, then of the second: tokens x features; values that
     *     have one row a window keep it: windows x features. The next batch may use their memory
     */
    public record Batch(int first, List<Integer> lengths, Map<String, Tensor> rows) {}

    /**
     * @param session a model whose inputs are {@code input_ids} and, if it has them, {@code attention_mask} and
     *     {@code token_type_ids}, as 32- or 64-bit integers
     * @throws ModelException when it has other inputs
     */
    public OnnxEncoder(OnnxSession session) {
        List<String> names = session.inputs().stream().map(Port::name).toList();
        boolean known = session.inputs().stream()
                .allMatch(input -> List.of(IDS, MASK, TYPES).contains(input.name())
                        && (input.dtype() == DType.I64 || input.dtype() == DType.I32));
        if (!known || !names.contains(IDS)) {
            throw new ModelException(
                    "the model takes " + names + ", which is no encoder of tokens; it needs the integer"
                            + " inputs input_ids, and optionally attention_mask and token_type_ids");
        }
        this.session = session;
    }

    /**
     * Runs windows in batches, padded to the longest of each batch, and hands over one batch after the other.
     *
     * @param windows token numbers, each window with at least one
     * @param batch windows a batch, at least 1
     * @param values names of outputs or tapped values
     * @throws ModelException when a value has no rows for tokens or windows
     */
    public void run(List<int[]> windows, int batch, Collection<String> values, Consumer<Batch> consumer) {
        if (batch < 1) {
            throw new IllegalArgumentException("a batch needs at least one window, not " + batch);
        }
        for (int first = 0; first < windows.size(); first += batch) {
            List<int[]> part = windows.subList(first, Math.min(windows.size(), first + batch));
            int[] lengths = part.stream().mapToInt(window -> window.length).toArray();
            int longest = Arrays.stream(lengths).max().orElseThrow();
            if (Arrays.stream(lengths).anyMatch(length -> length == 0)) {
                throw new ModelException("a window from number " + first + " on has no tokens; leave empty texts out");
            }
            Map<String, Tensor> rows = new LinkedHashMap<>();
            run(feed(part, longest), Shape.of(part.size(), longest), values)
                    .forEach((name, value) -> rows.put(name, compact(value, lengths, longest)));
            consumer.accept(new Batch(first, Arrays.stream(lengths).boxed().toList(), rows));
        }
    }

    /** Runs one batch, in the memory of an earlier one of windows as long, where that has enough of it. */
    private Map<String, Tensor> run(List<Tensor> inputs, Shape shape, Collection<String> values) {
        long windows = shape.dimension(0);
        if (latest == null || !latest.holds(shape, values)) {
            latest = new Outputs(shape, session.run(inputs, values));
            return latest.values();
        }
        Map<String, Tensor> outputs = new LinkedHashMap<>();
        latest.values().forEach((name, value) -> outputs.put(name, latest.first(windows, value)));
        session.rerun(inputs, outputs);
        return outputs;
    }

    /**
     * What a batch gave.
     *
     * @param shape windows x tokens of the batch
     */
    private record Outputs(Shape shape, Map<String, Tensor> values) {
        boolean holds(Shape batch, Collection<String> wanted) {
            return batch.dimension(1) == shape.dimension(1)
                    && batch.dimension(0) <= shape.dimension(0)
                    && List.copyOf(wanted).equals(List.copyOf(values.keySet()))
                    && values.values().stream()
                            .allMatch(value ->
                                    value.shape().rank() > 0 && value.shape().dimension(0) % shape.dimension(0) == 0);
        }

        /** A value's memory as a batch of fewer windows takes it: its first dimension counts windows, or their tokens. */
        Tensor first(long windows, Tensor value) {
            long[] dimensions = value.shape().toArray();
            dimensions[0] = dimensions[0] / shape.dimension(0) * windows;
            Shape part = Shape.of(dimensions);
            return new Tensor(
                    value.name(),
                    value.dtype(),
                    part,
                    value.data().asSlice(0, value.dtype().bytesFor(part.elements())));
        }
    }

    private List<Tensor> feed(List<int[]> windows, int longest) {
        int[][] ids = new int[windows.size()][];
        int[][] mask = new int[windows.size()][longest];
        for (int w = 0; w < ids.length; w++) {
            ids[w] = Arrays.copyOf(windows.get(w), longest);
            Arrays.fill(mask[w], 0, windows.get(w).length, 1);
        }
        return feed(TokenBatch.of(ids, mask));
    }

    /** The tensors that the model takes for a batch. */
    public List<Tensor> feed(TokenBatch batch) {
        List<Tensor> fed = new ArrayList<>();
        for (Port input : session.inputs()) {
            int width = input.dtype().bytes();
            MemorySegment data = MemorySegment.ofArray(new byte[Math.multiplyExact(batch.tokens(), width)]);
            for (int token = 0; token < batch.tokens(); token++) {
                int value = switch (input.name()) {
                    case IDS -> batch.id(token);
                    case MASK -> batch.visible(token) ? 1 : 0;
                    default -> 0;
                };
                if (width == Long.BYTES) {
                    data.set(ValueLayout.JAVA_LONG_UNALIGNED, (long) token * width, value);
                } else {
                    data.set(ValueLayout.JAVA_INT_UNALIGNED, (long) token * width, value);
                }
            }
            fed.add(new Tensor(input.name(), input.dtype(), Shape.of(batch.sequences(), batch.length()), data));
        }
        return fed;
    }

    private static Tensor compact(Tensor value, int[] lengths, int longest) {
        long[] shape = value.shape().toArray();
        int windows = lengths.length;
        boolean tokens = shape.length > 2 && shape[0] == windows && shape[1] == longest;
        boolean flat = shape.length == 2 && shape[0] == (long) windows * longest;
        boolean pooled = shape.length == 2 && shape[0] == windows;
        if (!value.dtype().isFloating() || !(tokens || flat || pooled)) {
            throw new ModelException(
                    "value \"" + value.name() + "\" is " + value.dtype() + " " + value.shape() + " for " + windows
                            + " windows of " + longest + " tokens, which gives no row to a token; tap another value");
        }
        long features = 1;
        for (int i = tokens ? 2 : 1; i < shape.length; i++) {
            features *= shape[i];
        }
        boolean perToken = tokens || flat;
        long rows = perToken ? Arrays.stream(lengths).asLongStream().sum() : windows;
        if (value.dtype() == DType.F32 && rows * features == value.shape().elements()) {
            return new Tensor(value.name(), DType.F32, Shape.of(rows, features), value.data());
        }
        MemorySegment data = MemorySegment.ofArray(new float[Math.toIntExact(rows * features)]);
        long to = 0;
        for (int w = 0; w < windows; w++) {
            long from = perToken ? (long) w * longest * features : w * features;
            long count = perToken ? lengths[w] * features : features;
            copy(value, from, data, to, count);
            to += count;
        }
        return new Tensor(value.name(), DType.F32, Shape.of(rows, features), data);
    }

    private static void copy(Tensor from, long start, MemorySegment to, long at, long count) {
        if (from.dtype() == DType.F32) {
            MemorySegment.copy(from.data(), start * Float.BYTES, to, at * Float.BYTES, count * Float.BYTES);
            return;
        }
        for (long i = 0; i < count; i++) {
            to.set(FLOAT, (at + i) * Float.BYTES, (float) Floats.get(from.dtype(), from.data(), start + i));
        }
    }
}

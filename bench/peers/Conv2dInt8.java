import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import com.google.protobuf.ByteString;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.concurrent.locks.LockSupport;
import org.sentei.format.onnx.proto.AttributeProto;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.format.onnx.proto.ModelProto;
import org.sentei.format.onnx.proto.NodeProto;
import org.sentei.format.onnx.proto.OperatorSetIdProto;
import org.sentei.format.onnx.proto.TensorProto;
import org.sentei.format.onnx.proto.TypeProto;
import org.sentei.format.onnx.proto.ValueInfoProto;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.Conv2dInt8;
import org.sentei.kernel.Int8Filters;
import org.sentei.kernel.Levels;
import org.sentei.kernel.Op;
import org.sentei.kernel.Scope;
import org.sentei.kernel.Sequence;
import org.sentei.kernel.View;
import org.sentei.kernel.Window;
import org.sentei.model.onnx.OnnxRuntimeLibrary;
import org.sentei.tensor.DType;

/**
 * Chains of eight 8-bit convolutions, ours and ONNX Runtime's QLinearConv with the same weights, in one process and by turns, each
 * behind ten that are not timed. What the processor can do, which changes with its clock, is measured between the rounds.
 * Arguments: threads, rounds, then {@code size channels filters kernel type groups} again and again; where there are not as
 * many filters as channels every second convolution goes back. Prints a line a shape: the shape, operations a second in 10^9
 * of ours and of theirs by the median of the rounds, of processor time where it is one thread, their ratio, and the fastest round
 * of ours in percent of what the processor can do.
 */
final class Conv2dInt8Times {
    private static final int CHAIN = 8;
    private static final int WARM_UP = 5;
    private static final long PAUSE = 200_000_000;
    private static final int BEFORE = 10;
    private static final int PEAKS = 6;
    private static final float SCALE = 0.02f;
    private static final ThreadMXBean THREADS = ManagementFactory.getThreadMXBean();

    private Conv2dInt8Times() {}

    public static void main(String[] args) throws OrtException {
        int threads = Integer.parseInt(args[0]);
        int rounds = Integer.parseInt(args[1]);
        OnnxRuntimeLibrary.require();
        try (Backend backend = Backends.find("cpu").open(new Backend.Options(0, threads))) {
            for (int i = 2; i < args.length; i += 6) {
                Shape shape = new Shape(
                        Integer.parseInt(args[i]),
                        Integer.parseInt(args[i + 1]),
                        Integer.parseInt(args[i + 2]),
                        Integer.parseInt(args[i + 3]),
                        DType.valueOf(args[i + 4]),
                        Integer.parseInt(args[i + 5]));
                double[][] seconds = time(backend, shape, threads, rounds);
                double fastest =
                        shape.operations() / Arrays.stream(seconds[0]).min().orElseThrow();
                double ours = shape.operations() / median(seconds[0]);
                double theirs = shape.operations() / median(seconds[1]);
                System.out.printf(
                        "%d %d %d %d %s %d %.1f %.1f %.2f %.0f%n",
                        shape.size(),
                        shape.channels(),
                        shape.filters(),
                        shape.kernel(),
                        shape.type(),
                        shape.groups(),
                        ours / 1e9,
                        theirs / 1e9,
                        ours / theirs,
                        100 * fastest / Arrays.stream(seconds[2]).max().orElseThrow());
            }
        }
    }

    private record Shape(int size, int channels, int filters, int kernel, DType type, int groups) {
        int from(int step) {
            return step % 2 == 0 ? channels : filters;
        }

        int to(int step) {
            return step % 2 == 0 ? filters : channels;
        }

        int weights(int step) {
            return to(step) * (from(step) / groups) * kernel * kernel;
        }

        float weightScale(int step) {
            // Keeps the spread of what goes from one to the next.
            return (float) (1 / (73 * Math.sqrt((double) weights(step) / to(step))));
        }

        double operations() {
            double sum = 0;
            for (int step = 0; step < CHAIN; step++) {
                sum += 2.0 * size * size * weights(step);
            }
            return sum;
        }

        int zero() {
            return 128 + Levels.lowest(type);
        }
    }

    private interface Chain {
        void run() throws OrtException;
    }

    private static double seconds(int threads, Chain chain) throws OrtException {
        if (threads > 1) {
            // The other side's threads look for work for a while before they sleep, on cores that this one needs.
            LockSupport.parkNanos(PAUSE);
        }
        // Caches hold what the other side has left, and one's own threads may have to be woken.
        for (int i = 0; i < BEFORE; i++) {
            chain.run();
        }
        long begin = nanos(threads);
        chain.run();
        return (nanos(threads) - begin) / 1e9;
    }

    /** Of one thread the processor's time, which others on the machine take less from than from the clock's. */
    private static long nanos(int threads) {
        return threads == 1 ? THREADS.getCurrentThreadCpuTime() : System.nanoTime();
    }

    /** Operations a second: a product of bytes is a quarter of one of floats, of which VPDPBUSD adds up a vector at a time. */
    private static double peak(Backend backend) {
        return 4 * backend.ceilings().orElseThrow().operations();
    }

    private static double median(double[] values) {
        Arrays.sort(values);
        return values[values.length / 2];
    }

    /** Seconds of ours and of theirs in every round, and the peaks that were measured between them. */
    private static double[][] time(Backend backend, Shape shape, int threads, int rounds) throws OrtException {
        List<byte[]> weights = new ArrayList<>();
        SplittableRandom random = new SplittableRandom(1);
        byte[] x = new byte[shape.size() * shape.size() * shape.channels()];
        random.nextBytes(x);
        for (int step = 0; step < CHAIN; step++) {
            byte[] values = new byte[shape.weights(step)];
            for (int i = 0; i < values.length; i++) {
                values[i] = (byte) random.nextInt(-127, 128);
            }
            weights.add(values);
        }
        OrtEnvironment environment = OrtEnvironment.getEnvironment();
        int each = Math.ceilDiv(rounds, PEAKS);
        double[][] seconds = {new double[rounds], new double[rounds], new double[Math.ceilDiv(rounds, each)]};
        try (Scope scope = new Scope(backend);
                Sequence ours = backend.prepare(ops(scope, shape, x, weights));
                OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
            options.setIntraOpNumThreads(threads);
            long[] inputShape = {1, shape.channels(), shape.size(), shape.size()};
            try (OrtSession theirs =
                            environment.createSession(model(shape, weights).toByteArray(), options);
                    OnnxTensor input = OnnxTensor.createTensor(
                            environment,
                            ByteBuffer.allocateDirect(x.length).put(x).flip(),
                            inputShape,
                            shape.type() == DType.U8 ? OnnxJavaType.UINT8 : OnnxJavaType.INT8)) {
                for (int round = -WARM_UP; round < rounds; round++) {
                    if (round >= 0 && round % each == 0) {
                        seconds[2][round / each] = peak(backend);
                    }
                    double first = seconds(threads, () -> {
                        backend.run(ours, 1);
                        backend.sync();
                    });
                    double second = seconds(
                            threads, () -> theirs.run(Map.of("x0", input)).close());
                    if (round >= 0) {
                        seconds[0][round] = first;
                        seconds[1][round] = second;
                    }
                }
            }
        }
        return seconds;
    }

    private static List<Conv2dInt8> chain(
            Scope scope, Shape shape, View x, List<View> results, List<Int8Filters> filters, Window window) {
        List<Conv2dInt8> ops = new ArrayList<>();
        View from = x;
        for (int step = 0; step < CHAIN; step++) {
            Int8Filters packed = filters.get(step);
            View weights = scope.matrix(
                    DType.I8, packed.layout().rows(), packed.layout().cols());
            View bias = scope.matrix(DType.I32, 1, shape.to(step));
            View scale = scope.matrix(1, shape.to(step));
            scope.backend().copyIn(packed.weights(), weights);
            scope.backend().copyIn(packed.bias(), bias);
            scope.backend().copyIn(packed.scale(), scale);
            Levels levels = Levels.of(shape.type(), shape.zero());
            View y = results.get(step % results.size());
            ops.add(new Conv2dInt8(from, shape.zero(), weights, bias, scale, null, y, levels, window, shape.groups()));
            from = y;
        }
        return ops;
    }

    private static List<Op> ops(Scope scope, Shape shape, byte[] x, List<byte[]> weights) {
        Window window = Window.square(shape.size(), shape.size(), shape.kernel(), 1, shape.kernel() / 2);
        View first = scope.matrix(shape.type(), window.inputPixels(), shape.channels());
        scope.backend().copyIn(MemorySegment.ofArray(x), first);
        List<View> results = new ArrayList<>();
        for (int step = 0; step < 2; step++) {
            results.add(scope.matrix(shape.type(), window.outputPixels(), shape.to(step)));
        }
        List<Int8Filters> filters = new ArrayList<>();
        for (int step = 0; step < CHAIN; step++) {
            float[] scales = new float[shape.to(step)];
            Arrays.fill(scales, shape.weightScale(step));
            filters.add(Int8Filters.pack(
                    new Int8Filters.Layout(shape.to(step), shape.from(step), shape.groups(), window.taps()),
                    weights.get(step),
                    scales,
                    null,
                    new Int8Filters.Scales(SCALE, shape.zero(), Levels.lowest(shape.type()), SCALE)));
        }
        return List.copyOf(chain(scope, shape, first, results, filters, window));
    }

    private static ModelProto model(Shape shape, List<byte[]> weights) {
        int type = shape.type() == DType.U8 ? 2 : 3;
        GraphProto.Builder graph = GraphProto.newBuilder()
                .setName("chain")
                .addInput(value("x0", type))
                .addOutput(value("x" + CHAIN, type))
                .addInitializer(floats("scale", SCALE).toBuilder().clearDims())
                .addInitializer(bytes("zero", type, (byte) shape.zero()));
        for (int step = 0; step < CHAIN; step++) {
            float[] scales = new float[shape.to(step)];
            Arrays.fill(scales, shape.weightScale(step));
            graph.addNode(NodeProto.newBuilder()
                            .setOpType("QLinearConv")
                            .addAllInput(List.of(
                                    "x" + step, "scale", "zero", "w" + step, "ws" + step, "wz" + step, "scale", "zero"))
                            .addOutput("x" + (step + 1))
                            .addAttribute(AttributeProto.newBuilder()
                                    .setName("pads")
                                    .setType(AttributeProto.AttributeType.INTS)
                                    .addAllInts(Collections.nCopies(4, shape.kernel() / 2L)))
                            .addAttribute(AttributeProto.newBuilder()
                                    .setName("group")
                                    .setType(AttributeProto.AttributeType.INT)
                                    .setI(shape.groups())))
                    .addInitializer(bytes("w" + step, 3, weights.get(step)).toBuilder()
                            .addDims(shape.to(step))
                            .addDims(shape.from(step) / shape.groups())
                            .addDims(shape.kernel())
                            .addDims(shape.kernel()))
                    .addInitializer(floats("ws" + step, scales))
                    .addInitializer(bytes("wz" + step, 3, new byte[shape.to(step)]).toBuilder()
                            .addDims(shape.to(step)));
        }
        return ModelProto.newBuilder()
                .setIrVersion(8)
                .addOpsetImport(OperatorSetIdProto.newBuilder().setVersion(13))
                .setGraph(graph)
                .build();
    }

    private static ValueInfoProto value(String name, int type) {
        return ValueInfoProto.newBuilder()
                .setName(name)
                .setType(TypeProto.newBuilder()
                        .setTensorType(TypeProto.Tensor.newBuilder().setElemType(type)))
                .build();
    }

    private static TensorProto bytes(String name, int type, byte... values) {
        return TensorProto.newBuilder()
                .setName(name)
                .setDataType(type)
                .setRawData(ByteString.copyFrom(values))
                .build();
    }

    private static TensorProto floats(String name, float... values) {
        TensorProto.Builder tensor =
                TensorProto.newBuilder().setName(name).setDataType(1).addDims(values.length);
        for (float value : values) {
            tensor.addFloatData(value);
        }
        return tensor.build();
    }
}

package org.sentei.model.onnx;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import ai.onnxruntime.NodeInfo;
import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OnnxTensorLike;
import ai.onnxruntime.OnnxValue;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.TensorInfo;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.sentei.model.GraphModel;
import org.sentei.model.ModelException;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * One loaded ONNX model, ready to run on the CPU.
 *
 * <p>One run uses {@code threads} threads that sleep while they wait. A session may be used by several threads.
 */
public final class OnnxSession implements AutoCloseable {
    private final String name;
    private final OrtEnvironment environment;
    private final OrtSession session;
    private final List<Port> inputs;
    private final List<Port> outputs;

    /**
     * A named input or output of a graph.
     *
     * @param dtype element type; null for an output whose values are no tensor we can read
     * @param dimensions -1 where the size is free; empty when nothing is known
     */
    public record Port(String name, DType dtype, List<Long> dimensions) {}

    private OnnxSession(String name, OrtEnvironment environment, OrtSession session) throws OrtException {
        this.name = name;
        this.environment = environment;
        this.session = session;
        this.inputs = ports(session.getInputInfo());
        this.outputs = ports(session.getOutputInfo());
    }

    /**
     * Loads a serialized model.
     *
     * @param model its graph is copied; its weights must outlive the session
     * @param threads threads of one operator, at least 1
     * @throws org.sentei.kernel.DeviceException UNSUPPORTED when ONNX Runtime does not load
     * @throws ModelException when ONNX Runtime refuses the model
     */
    public static OnnxSession open(GraphModel model, int threads) {
        return open(model, threads, false);
    }

    /**
     * As {@link #open(GraphModel, int)}, for many runs on small inputs: weights are put in order for that first, as they are in
     * applications.
     */
    public static OnnxSession openPrepacked(GraphModel model, int threads) {
        return open(model, threads, true);
    }

    private static OnnxSession open(GraphModel model, int threads, boolean prepacked) {
        if (threads < 1) {
            throw new IllegalArgumentException("a session needs at least one thread, not " + threads);
        }
        OnnxRuntimeLibrary.require();
        // One a process, with the log level of whoever asks first: an embedder's own, or the library's default.
        OrtEnvironment environment = OrtEnvironment.getEnvironment();
        Map<String, OnnxTensorLike> external = new LinkedHashMap<>();
        try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
            options.setIntraOpNumThreads(threads);
            options.setInterOpNumThreads(1);
            options.addConfigEntry("session.intra_op.allow_spinning", "0");
            // Batches are large: weights a second time, in the order of one product, would gain less than they cost.
            options.addConfigEntry("session.disable_prepacking", prepacked ? "0" : "1");
            options.addConfigEntry(
                    "session.model_external_initializers_file_folder_path",
                    model.folder().toString());
            options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL);
            for (Tensor weight : model.weights()) {
                external.put(weight.name(), over(environment, weight));
            }
            options.addExternalInitializers(external);
            OrtSession session = environment.createSession(model.graph().asByteBuffer(), options);
            try {
                return new OnnxSession(model.name(), environment, session);
            } catch (OrtException e) {
                session.close();
                throw e;
            }
        } catch (OrtException e) {
            throw new ModelException(
                    model.name() + ": ONNX Runtime cannot load the model (" + e.getMessage()
                            + "); check it with another ONNX tool or export it again",
                    e);
        } finally {
            external.values().forEach(OnnxTensorLike::close);
        }
    }

    public List<Port> inputs() {
        return inputs;
    }

    /** The graph's own outputs in their order, then the tapped values. */
    public List<Port> outputs() {
        return outputs;
    }

    /**
     * Runs the graph once.
     *
     * @param values one tensor for every input, by name
     * @param wanted names of outputs to fetch
     * @return the outputs in the order of {@code wanted}, in memory of their own
     * @throws ModelException for a missing or unknown name, a wrong element type, or when the graph fails
     */
    public Map<String, Tensor> run(Collection<Tensor> values, Collection<String> wanted) {
        check(values, wanted);
        return feeding(values, fed -> {
            try (OrtSession.Result result = session.run(fed, new LinkedHashSet<>(wanted))) {
                Map<String, Tensor> fetched = new LinkedHashMap<>();
                for (String output : wanted) {
                    fetched.put(output, copy(output, result.get(output).orElseThrow()));
                }
                return fetched;
            }
        });
    }

    /**
     * Runs the graph once more, into memory that there is already: to get fresh memory for all values of a large graph takes
     * about as long as to compute them.
     *
     * @param outputs native memory for the outputs to fetch, of the shapes that they will have: that of an earlier {@link #run}
     * @throws ModelException as {@link #run} does, or when an output has another shape
     */
    public void rerun(Collection<Tensor> values, Map<String, Tensor> outputs) {
        check(values, outputs.keySet());
        feeding(values, fed -> {
            Map<String, OnnxTensor> pinned = new LinkedHashMap<>();
            try {
                for (Tensor output : outputs.values()) {
                    pinned.put(output.name(), over(environment, output));
                }
                session.run(fed, Set.of(), pinned).close();
                return null;
            } finally {
                pinned.values().forEach(OnnxTensor::close);
            }
        });
    }

    /** What is done with inputs that have been fed. */
    @FunctionalInterface
    private interface Run<T> {
        T on(Map<String, OnnxTensor> fed) throws OrtException;
    }

    private <T> T feeding(Collection<Tensor> values, Run<T> run) {
        try (Arena scratch = Arena.ofConfined()) {
            Map<String, OnnxTensor> fed = new LinkedHashMap<>();
            try {
                for (Tensor value : values) {
                    fed.put(value.name(), feed(value, scratch));
                }
                return run.on(fed);
            } finally {
                fed.values().forEach(OnnxTensor::close);
            }
        } catch (OrtException e) {
            throw new ModelException(
                    name + ": ONNX Runtime failed while running (" + e.getMessage()
                            + "); check the input's shape and values",
                    e);
        }
    }

    /** A tensor over a copy of the value, which must outlive it. */
    private OnnxTensor feed(Tensor value, Arena arena) throws OrtException {
        MemorySegment direct = arena.allocate(value.data().byteSize(), Long.BYTES);
        direct.copyFrom(value.data());
        return over(environment, new Tensor(value.name(), value.dtype(), value.shape(), direct));
    }

    /** A tensor over the value's own memory, which is native and must outlive it. */
    private static OnnxTensor over(OrtEnvironment environment, Tensor value) throws OrtException {
        return OnnxTensor.createTensor(
                environment,
                value.data().asByteBuffer().order(ByteOrder.nativeOrder()),
                value.shape().toArray(),
                javaType(value));
    }

    private void check(Collection<Tensor> values, Collection<String> wanted) {
        List<String> missing = new ArrayList<>(inputs.stream().map(Port::name).toList());
        for (Tensor value : values) {
            Port port = inputs.stream()
                    .filter(input -> input.name().equals(value.name()))
                    .findFirst()
                    .orElseThrow(
                            () -> new ModelException(name + " has no input \"" + value.name() + "\"; its inputs are "
                                    + inputs.stream().map(Port::name).toList()));
            if (port.dtype() != value.dtype()) {
                throw new ModelException(name + ": input \"" + value.name() + "\" takes " + port.dtype() + ", not "
                        + value.dtype() + "; convert the values");
            }
            missing.remove(value.name());
        }
        if (!missing.isEmpty()) {
            throw new ModelException(name + ": inputs " + missing + " are missing; feed every input of the model");
        }
        List<String> known = outputs.stream().map(Port::name).toList();
        for (String output : wanted) {
            if (!known.contains(output)) {
                throw new ModelException(name + " has no output \"" + output + "\"; its outputs are " + known);
            }
        }
    }

    private Tensor copy(String output, OnnxValue value) {
        if (!(value instanceof OnnxTensor tensor)) {
            throw notReadable(output, value.getInfo().toString());
        }
        DType dtype = dtype(tensor.getInfo().onnxType);
        ByteBuffer bytes = dtype == null ? null : tensor.getByteBuffer();
        if (bytes == null) {
            throw notReadable(output, tensor.getInfo().toString());
        }
        // Native memory, which the next run can write to.
        MemorySegment data =
                Arena.ofAuto().allocateFrom(JAVA_BYTE, MemorySegment.ofBuffer(bytes), JAVA_BYTE, 0, bytes.remaining());
        return new Tensor(output, dtype, Shape.of(tensor.getInfo().getShape()), data);
    }

    private ModelException notReadable(String output, String type) {
        return new ModelException(name + ": output \"" + output + "\" is " + type + "; ask for a tensor of numbers");
    }

    private static List<Port> ports(Map<String, NodeInfo> infos) {
        return infos.values().stream()
                .map(info -> info.getInfo() instanceof TensorInfo tensor
                        ? new Port(
                                info.getName(),
                                dtype(tensor.onnxType),
                                Arrays.stream(tensor.getShape()).boxed().toList())
                        : new Port(info.getName(), null, List.of()))
                .toList();
    }

    private static OnnxJavaType javaType(Tensor tensor) {
        return switch (tensor.dtype()) {
            case F32 -> OnnxJavaType.FLOAT;
            case F64 -> OnnxJavaType.DOUBLE;
            case F16 -> OnnxJavaType.FLOAT16;
            case BF16 -> OnnxJavaType.BFLOAT16;
            case I64 -> OnnxJavaType.INT64;
            case I32 -> OnnxJavaType.INT32;
            case I16 -> OnnxJavaType.INT16;
            case I8 -> OnnxJavaType.INT8;
            case U8 -> OnnxJavaType.UINT8;
            case BOOL -> OnnxJavaType.BOOL;
            case U64, U32, U16, C64, F8_E4M3, F8_E5M2, F8_E8M0, F6_E2M3, F6_E3M2, F4 ->
                throw new ModelException("tensor \"" + tensor.name() + "\" of " + tensor.dtype()
                        + " cannot be fed to ONNX Runtime; use a model with another type");
        };
    }

    private static DType dtype(TensorInfo.OnnxTensorType type) {
        return switch (type) {
            case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT -> DType.F32;
            case ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE -> DType.F64;
            case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 -> DType.F16;
            case ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16 -> DType.BF16;
            case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 -> DType.I64;
            case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 -> DType.I32;
            case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16 -> DType.I16;
            case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 -> DType.I8;
            case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 -> DType.U8;
            case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL -> DType.BOOL;
            default -> null;
        };
    }

    @Override
    public void close() {
        try {
            session.close();
        } catch (OrtException e) {
            throw new ModelException(name + ": ONNX Runtime cannot close the model (" + e.getMessage() + ")", e);
        }
    }
}

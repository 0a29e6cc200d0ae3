/**
 * Sentei, the neural-network compression engine, for those who embed it on the module path.
 *
 * <p>What is {@code requires static} is optional at run time: ONNX Runtime for ONNX models, DJL's tokenizer for calibration
 * on text and its PyTorch engine for training, LWJGL for OpenCL devices, JCuda for NVIDIA GPUs, picocli for the command line.
 * OpenBLAS, which the cpu backend loads as a file, is read from the class path.
 */
module org.sentei {
    requires com.fasterxml.jackson.databind;
    requires com.fasterxml.jackson.dataformat.yaml;
    requires com.google.protobuf;
    requires org.apache.commons.numbers.gamma;
    requires org.slf4j;
    requires static ai.djl.api;
    requires static ai.djl.pytorch_engine;
    requires static ai.djl.tokenizers;
    requires static com.microsoft.onnxruntime;
    requires static info.picocli;
    requires static jcuda;
    requires static org.lwjgl;
    requires static org.lwjgl.opencl;

    exports org.sentei.tensor;
    exports org.sentei.kernel;
    exports org.sentei.model;
    exports org.sentei.model.graph;
    exports org.sentei.method;
    exports org.sentei.method.easier;
    exports org.sentei.method.quantize;
    exports org.sentei.format;
    exports org.sentei.engine;
    exports org.sentei.engine.experiment;
    exports org.sentei.engine.recipe;
    exports org.sentei.engine.report;
    exports org.sentei.engine.training;
    exports org.sentei.train;

    opens org.sentei.bench to
            com.fasterxml.jackson.databind;
    opens org.sentei.cli to
            com.fasterxml.jackson.databind,
            info.picocli;
    opens org.sentei.engine to
            com.fasterxml.jackson.databind;
    opens org.sentei.engine.experiment to
            com.fasterxml.jackson.databind;
    opens org.sentei.engine.report to
            com.fasterxml.jackson.databind;
    opens org.sentei.engine.training to
            com.fasterxml.jackson.databind;

    uses org.sentei.bench.Harness;
    uses org.sentei.kernel.Backend.Provider;

    provides org.sentei.kernel.Backend.Provider with
            org.sentei.backend.cpu.NativeProvider,
            org.sentei.backend.cuda.CudaProvider,
            org.sentei.backend.opencl.OpenClProvider,
            org.sentei.backend.reference.ReferenceProvider;
}

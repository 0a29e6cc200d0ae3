/** A program that embeds Sentei on the module path, with the parts that read text and run ONNX graphs. */
module org.example.embedder {
    requires ai.djl.tokenizers;
    requires com.microsoft.onnxruntime;
    requires org.sentei;
}

package org.sentei.cli;

import java.nio.file.Path;
import org.sentei.format.ModelZoo;
import picocli.CommandLine.Parameters;

/** The model that a command works on. */
final class ModelArgument {
    @Parameters(
            index = "0",
            paramLabel = "MODEL",
            description = "Hugging Face folder, .onnx file, or a name from sentei models.")
    private String model;

    /** Where it is; a model with a name is unpacked on first use. */
    Path locate() {
        return locate(model);
    }

    /** Where a folder, file or named model is. */
    static Path locate(String model) {
        return ModelZoo.find(model).isPresent() ? ModelZoo.configured().locate(model) : Path.of(model);
    }
}

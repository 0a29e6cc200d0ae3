package org.sentei.cli;

import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import org.sentei.format.FormatException;
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
        if (ModelZoo.find(model).isPresent()) {
            return ModelZoo.configured().locate(model);
        }
        try {
            return Path.of(model);
        } catch (InvalidPathException invalid) {
            throw new FormatException(
                    "model " + model + " is no path in this locale; set LC_ALL to one of UTF-8, for example C.UTF-8",
                    invalid);
        }
    }
}

package org.sentei.cli;

import java.nio.file.Path;
import java.util.concurrent.Callable;
import org.sentei.engine.Sentei;
import org.sentei.kernel.Backend;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code sentei forward}: one forward pass. */
@Command(
        name = "forward",
        description =
                "Runs tokens through a model once and writes its outputs as safetensors (F32): logits of a decoder or"
                        + " the last hidden state of an encoder as output, the outputs of an ONNX graph under their names.",
        footer = {
            "",
            "Example: check against another tool",
            "  echo '{\"input_ids\": [[1, 2, 3]], \"attention_mask\": [[1, 1, 1]]}' > ids.json",
            "  sentei forward llama/ --input ids.json --out logits.safetensors"
        })
final class ForwardCommand implements Callable<Integer> {
    private final Terminal terminal;

    @Mixin
    private ModelArgument model;

    @Option(
            names = "--input",
            required = true,
            paramLabel = "FILE",
            description = "JSON with input_ids and, for padded rows, attention_mask.")
    private Path input;

    @Option(names = "--out", required = true, paramLabel = "FILE", description = "safetensors file to write.")
    private Path out;

    @Mixin
    private ComputeOptions compute;

    @Mixin
    private CommonOptions common;

    ForwardCommand(Terminal terminal) {
        this.terminal = terminal;
    }

    record Document(String model, String input, String out) {}

    @Override
    public Integer call() {
        Backend.Options options = compute.options(common);
        compute.check();
        compute.warn(terminal);
        Path located = model.locate();
        Tokens tokens = Tokens.read(input);
        Sentei.forward(
                located,
                Tokens.array(tokens.inputIds()),
                Tokens.array(tokens.attentionMask()),
                out,
                compute.backend,
                options);
        if (common.json) {
            Json.print(terminal, new Document(located.toString(), input.toString(), out.toString()));
        } else {
            terminal.out().println(out);
        }
        return ExitCode.OK;
    }
}

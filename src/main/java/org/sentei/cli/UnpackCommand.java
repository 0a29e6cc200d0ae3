package org.sentei.cli;

import java.nio.file.Path;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.function.BooleanSupplier;
import org.sentei.engine.Sentei;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code sentei unpack}: bitmask storage back to dense. */
@Command(
        name = "unpack",
        description =
                "Turns a folder written with storage: bitmask into the dense one it stands for, byte for byte what"
                        + " storage: dense would have written. Files other than weights are copied.",
        footer = {"", "Example: give a packed model to other tools", "  sentei unpack llama-50/ --out llama-50-dense/"})
final class UnpackCommand implements Callable<Integer> {
    private final Terminal terminal;
    private final BooleanSupplier cancelled;

    @Parameters(index = "0", paramLabel = "DIR", description = "Hugging Face folder in bitmask storage.")
    private String folder;

    @Option(names = "--out", required = true, paramLabel = "DIR2", description = "Folder to write; absent or empty.")
    private Path out;

    @Mixin
    private CommonOptions common;

    UnpackCommand(Terminal terminal, BooleanSupplier cancelled) {
        this.terminal = terminal;
        this.cancelled = cancelled;
    }

    record Document(String model, String out, int tensors, long bytesBefore, long bytesAfter) {}

    @Override
    public Integer call() {
        Path packed = ModelArgument.locate(folder);
        Sentei.Unpacked done;
        try (ProgressBar progress = new ProgressBar(terminal, cancelled)) {
            done = Sentei.unpack(packed, out, progress);
        }
        if (common.json) {
            Json.print(
                    terminal,
                    new Document(
                            packed.toString(), out.toString(), done.tensors(), done.bytesBefore(), done.bytesAfter()));
        } else {
            terminal.out()
                    .printf(
                            Locale.ROOT,
                            "%s: %d weights unpacked, %,d bytes became %,d%n",
                            out,
                            done.tensors(),
                            done.bytesBefore(),
                            done.bytesAfter());
        }
        return ExitCode.OK;
    }
}

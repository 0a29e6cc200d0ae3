package org.sentei.engine;

import java.util.List;
import org.sentei.engine.report.Report;
import org.sentei.format.Storage;

/** Which tools read what was written, and what pruning gains there: what the report says. */
final class Readers {
    private Readers() {}

    /** Readers of a Hugging Face folder. */
    static List<Report.Reader> ofFolder(Storage storage) {
        return switch (storage) {
            case DENSE ->
                List.of(
                        new Report.Reader("Sentei", "as it is"),
                        new Report.Reader(
                                "transformers, vLLM and others that read Hugging Face folders",
                                "as it is; zeros count as ordinary weights there, so size and speed are those of the"
                                        + " dense model"));
            case BITMASK ->
                List.of(
                        new Report.Reader("Sentei", "as it is: inspect, plan, compress, forward and eval"),
                        new Report.Reader(
                                "transformers, vLLM and others that read Hugging Face folders",
                                "only after sentei unpack DIR --out DENSE, which gives back the dense files byte for byte;"
                                        + " the packed weights have another shape, at which such tools stop"));
        };
    }

    /** Readers of an ONNX graph. */
    static List<Report.Reader> ofGraph() {
        return List.of(
                new Report.Reader("Sentei", "as it is"),
                new Report.Reader(
                        "ONNX Runtime and others that read ONNX",
                        "as it is; zeros count as ordinary weights there, so size and speed are those of the dense model"));
    }
}

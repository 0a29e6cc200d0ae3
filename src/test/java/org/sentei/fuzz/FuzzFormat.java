package org.sentei.fuzz;

import java.util.Arrays;
import java.util.Locale;

/** The kinds of files that are fuzzed, and the share of the inputs that each gets. */
enum FuzzFormat {
    SAFETENSORS(5),
    SHARD_INDEX(3),
    CONFIG(5),
    ONNX(5),
    ONNX_RUN(3),
    RECIPE(4),
    TOKENIZER(4),
    DATA(2),
    INPUT_IDS(1),
    STATISTICS(2),
    TRAINING(2);

    private final int share;

    FuzzFormat(int share) {
        this.share = share;
    }

    String label() {
        return name().toLowerCase(Locale.ROOT).replace('_', '-');
    }

    static FuzzFormat of(String label) {
        return Arrays.stream(values())
                .filter(format -> format.label().equals(label))
                .findFirst()
                .orElseThrow(() -> new IllegalArgumentException("no format " + label + " is fuzzed; there are "
                        + Arrays.stream(values()).map(FuzzFormat::label).toList()));
    }

    /** Its cases among {@code inputs} in all. */
    long cases(long inputs) {
        long shares = Arrays.stream(values()).mapToLong(format -> format.share).sum();
        return (inputs * share + shares - 1) / shares;
    }

    FuzzTarget target() {
        return switch (this) {
            case SAFETENSORS -> new FolderTarget(FolderTarget.Part.SAFETENSORS);
            case SHARD_INDEX -> new FolderTarget(FolderTarget.Part.INDEX);
            case CONFIG -> new FolderTarget(FolderTarget.Part.CONFIG);
            case ONNX -> new OnnxTarget(false);
            case ONNX_RUN -> new OnnxTarget(true);
            case RECIPE -> new RecipeTarget();
            case TOKENIZER -> new TokenizerTarget();
            case DATA -> new DataTarget();
            case INPUT_IDS -> new InputIdsTarget();
            case STATISTICS -> new StatisticsTarget();
            case TRAINING -> new TrainingTarget();
        };
    }
}

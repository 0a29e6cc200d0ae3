package org.sentei.engine;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Consumer;
import java.util.function.Supplier;
import org.sentei.engine.recipe.Easier;
import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.report.Report;
import org.sentei.format.FormatException;
import org.sentei.format.OutputFolder;
import org.sentei.format.Storage;
import org.sentei.format.TextTokenizer;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Op;
import org.sentei.kernel.Scope;
import org.sentei.model.AttentionPair;
import org.sentei.model.Edit;
import org.sentei.model.ModelException;
import org.sentei.model.Site;
import org.sentei.model.TensorSource;
import org.sentei.model.TokenBatch;
import org.sentei.tensor.Tensor;

/** A model on disk, opened for reading: what the engine needs of it, whatever its format. */
sealed interface OpenModel extends AutoCloseable permits TransformerModel, OnnxModel {
    /**
     * Opens a Hugging Face folder or an ONNX file.
     *
     * @param threads threads of a graph runtime; ops have those of their backend
     * @throws FormatException when it is neither, or damaged
     * @throws ModelException when its architecture is not supported
     */
    static OpenModel open(Path path, int threads) {
        if (Files.isDirectory(path)) {
            return TransformerModel.open(path);
        }
        if (!Files.exists(path)) {
            throw new FormatException("model " + path + " does not exist; give a Hugging Face folder, an .onnx file,"
                    + " or a name that sentei models lists");
        }
        if (!path.getFileName().toString().endsWith(".onnx")) {
            throw new FormatException("model " + path
                    + " is neither a folder nor an .onnx file; give a Hugging Face folder or an .onnx file");
        }
        return OnnxModel.open(path, threads);
    }

    Path path();

    /** What it is, for example {@code llama}. */
    String architecture();

    /** Elements of all weights. */
    long parameters();

    /** Bytes of all weight files. */
    long bytes();

    /** Hash of the weights, in hexadecimal. */
    String sha256();

    /**
     * What results depend on besides the weights, by name.
     *
     * @param running whether data will be carried through the model
     */
    Map<String, String> traits(boolean running);

    TensorSource tensors();

    /** Every linear layer, in the order they run. */
    List<Site> sites();

    /** Sites whose outputs meet in a softmax, in the order they run; those of blocks that make them otherwise are missing. */
    List<AttentionPair> attentions();

    /** Whether a block sees the already compressed blocks before it unless the recipe says otherwise. */
    boolean sequentialByDefault();

    /** Whether the files can express a bias at this site, existing or new. */
    boolean biasPossible(Site site);

    /** Whether it takes images instead of tokens. */
    boolean takesImages();

    /**
     * Refuses what cannot make it shallower.
     *
     * @throws RecipeException when no step can, or the step asks for activations that it does not have
     */
    void checkEasier(Easier step);

    /**
     * Refuses what it cannot be quantized by.
     *
     * @throws RecipeException when no step can quantize it, or patterns match none of its layers
     */
    void checkQuantizing(Recipe.Quantizing step);

    /** Longest sequence it takes. */
    int maximumLength();

    /** Most tokens of one batch of calibration windows. */
    int calibrationTokens();

    /** Whether it turns a text into one vector; otherwise it predicts the next token. */
    boolean isEncoder();

    /** The tokenizer file to use when none is given; the names looked for are in the message. */
    Path defaultTokenizer();

    /**
     * What runs the model's own graph, for the backend table: empty when ops do.
     *
     * @throws org.sentei.kernel.DeviceException when it is not available
     */
    Optional<Report.Binding> graphRuntime();

    /** Ops that carry data through the model; none when a graph runtime does. */
    Set<Class<? extends Op>> ops();

    /** The targeted sites in the groups in which a walk takes them. */
    default List<List<Site>> groups(List<Site> targeted, boolean sequential) {
        return StillWalk.byBlock(targeted);
    }

    /**
     * The sites of each group whose weights are on the device together.
     *
     * @param running whether data will be carried through the model
     */
    List<List<Site>> held(List<Site> targeted, boolean sequential, boolean running);

    /**
     * Starts carrying calibration data through the model.
     *
     * @param targeted sites that will be edited
     * @param sequential whether a group sees what the groups before it committed
     */
    Walk walk(List<Site> targeted, Supplier<Calibration> calibration, boolean sequential, Scope scope);

    /** One forward pass: every output of the model by name, F32, in memory of the arena. */
    List<Tensor> forward(TokenBatch batch, Backend backend, Arena arena);

    /** Passes the vectors of texts on, in order and as they come: one F32 row a text, unit length. */
    void embed(List<int[]> texts, Scope scope, Consumer<float[]> consumer);

    /**
     * Refuses a place that {@link #write} cannot write to.
     *
     * @throws FormatException when it is one
     */
    void checkOutput(OutputFolder output) throws IOException;

    /**
     * Refuses a storage that files of this format have no place for.
     *
     * @throws RecipeException when it is one
     */
    void checkStorage(Storage storage);

    /** How the weights of this model lie in its files, and which tools read them. */
    Report.Storage storage();

    /**
     * Writes the compressed model, and the files that belong to it unchanged.
     *
     * @param storage one that {@link #checkStorage} does not refuse
     * @return warnings about files that still hold the weights as they were
     * @throws IOException when the output cannot be written, for example because the disk is full
     */
    List<String> write(OutputFolder output, List<Edit> edits, Storage storage) throws IOException;

    /** Opens a tokenizer, the given one or the model's own. */
    default TextTokenizer tokenizer(Optional<Path> given) {
        return TextTokenizer.open(given.orElseGet(this::defaultTokenizer));
    }

    @Override
    void close();
}

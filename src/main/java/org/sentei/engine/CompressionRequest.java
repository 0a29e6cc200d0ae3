package org.sentei.engine;

import java.nio.file.Path;
import java.util.Optional;
import org.sentei.engine.recipe.Recipe;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;

/**
 * What to compress, how, and with what.
 *
 * @param model a Hugging Face folder or an {@code .onnx} file
 * @param calibration text that statistics come from; needed by methods that look at activations
 * @param statistics complete file of {@link Plan#saveStatistics}, instead of {@code calibration}
 * @param data text or table that quality is measured on, before and after; needed by quality gates
 * @param tokenizer a {@code tokenizer.json}; the model's own when empty
 * @param backend name of a backend, or {@link Backends#AUTO}
 */
public record CompressionRequest(
        Path model,
        Recipe recipe,
        Optional<Path> calibration,
        Optional<Path> statistics,
        Optional<Path> data,
        Optional<Path> tokenizer,
        String backend,
        Backend.Options options) {

    /** A request on the fastest backend with all threads and nothing but a model and a recipe. */
    public static CompressionRequest of(Path model, Recipe recipe) {
        return new CompressionRequest(
                model,
                recipe,
                Optional.empty(),
                Optional.empty(),
                Optional.empty(),
                Optional.empty(),
                Backends.AUTO,
                Backend.Options.defaults());
    }

    /** The same with text that statistics come from. */
    public CompressionRequest withCalibration(Path text) {
        return new CompressionRequest(model, recipe, Optional.of(text), statistics, data, tokenizer, backend, options);
    }

    /** The same with statistics that were collected before. */
    public CompressionRequest withStatistics(Path file) {
        return new CompressionRequest(model, recipe, calibration, Optional.of(file), data, tokenizer, backend, options);
    }

    /** The same with data that quality is measured on. */
    public CompressionRequest withData(Path measured) {
        return new CompressionRequest(
                model, recipe, calibration, statistics, Optional.of(measured), tokenizer, backend, options);
    }

    /** The same on a certain backend. */
    public CompressionRequest on(String name, Backend.Options how) {
        return new CompressionRequest(model, recipe, calibration, statistics, data, tokenizer, name, how);
    }

    /** The same with a tokenizer other than the model's own. */
    public CompressionRequest withTokenizer(Path file) {
        return new CompressionRequest(
                model, recipe, calibration, statistics, data, Optional.of(file), backend, options);
    }
}

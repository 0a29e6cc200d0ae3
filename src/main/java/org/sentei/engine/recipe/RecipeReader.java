package org.sentei.engine.recipe;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.dataformat.yaml.JacksonYAMLParseException;
import com.fasterxml.jackson.dataformat.yaml.YAMLFactory;
import com.fasterxml.jackson.dataformat.yaml.YAMLParser;
import java.io.IOException;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.sentei.format.JsonFault;
import org.sentei.format.Storage;
import org.sentei.method.easier.Entropy;
import org.sentei.method.easier.Linearization;
import org.sentei.method.quantize.Quantization;

/**
 * Reads a recipe strictly: every key is known to the method it stands under, occurs once and has the right form. Works on
 * the stream of tokens, so that numbers keep the text their author wrote and every message has a line.
 */
final class RecipeReader {
    static final int MAX_CHARACTERS = 256 * 1024;

    private static final int MAX_DEPTH = 16;
    private static final int MAX_NUMBER_LENGTH = 40;
    private static final int MAX_PATTERN_LENGTH = 512;

    private static final List<String> TOP_KEYS =
            List.of("seed", "steps", "calibration", "images", "storage", "quality");
    private static final List<String> SELECTING_KEYS =
            List.of("method", "targets", "ignore", "sparsity", "scope", "pattern");
    private static final Map<Recipe.Method, List<String>> STEP_KEYS = Map.of(
            Recipe.Method.MAGNITUDE,
            SELECTING_KEYS,
            Recipe.Method.WANDA,
            SELECTING_KEYS,
            Recipe.Method.STADE,
            Stream.concat(SELECTING_KEYS.stream(), Stream.of("variant", "threshold", "bias"))
                    .toList(),
            Recipe.Method.SPARSEGPT,
            Stream.concat(SELECTING_KEYS.stream(), Stream.of("damping", "block"))
                    .toList(),
            Recipe.Method.ATTENTION,
            Stream.concat(
                            SELECTING_KEYS.stream(),
                            Stream.of("descent", "start", "iterations", "rate", "windows", "penalty"))
                    .toList());
    private static final List<String> QUANTIZE_KEYS = List.of(
            "method",
            "targets",
            "ignore",
            "keep",
            "fold",
            "relu6",
            "equalize",
            "absorb",
            "smooth",
            "weights",
            "weight_range",
            "weight_correction",
            "activations",
            "activation_range",
            "percentile",
            "unify",
            "bias_correction",
            "first",
            "last",
            "format");
    /** Keys of method easier for training. */
    private static final List<String> TUNING_KEYS = List.of(
            "delta",
            "order",
            "zero_entropy_all",
            "epochs",
            "learning_rate",
            "momentum",
            "decay",
            "schedule",
            "shift",
            "flip",
            "samples",
            "valid");

    private static final List<String> EASIER_KEYS = Stream.concat(
                    Stream.of(
                            "method", "mode", "layers", "targets", "ignore", "linearise", "entropy", "merge", "batch"),
                    TUNING_KEYS.stream())
            .toList();
    private static final List<String> IMAGES_KEYS =
            List.of("height", "width", "order", "fit", "scale", "mean", "deviation");
    private static final Pattern YAML_PLACE = Pattern.compile("^ in .* line (\\d+), column \\d+");

    private final String source;
    private final String text;

    private RecipeReader(String source, String text) {
        this.source = source;
        this.text = text;
    }

    /** @param source what the recipe is called in messages */
    static Recipe read(String source, String text, boolean json) {
        if (text.length() > MAX_CHARACTERS) {
            throw new RecipeException(source + ": has " + text.length() + " characters, a recipe has at most "
                    + MAX_CHARACTERS + "; use patterns instead of long lists of sites");
        }
        // JSON without tabs is YAML too, which is what the output folder's recipe.yaml promises; no JSON string has a
        // raw tab.
        RecipeReader reader = new RecipeReader(source, json ? text.replace("\t", "  ") : text);
        return reader.recipe(reader.parse(json));
    }

    // ---- tokens to values

    private sealed interface Value {
        int line();
    }

    private record Scalar(String text, int line) implements Value {}

    private record Items(List<Value> values, int line) implements Value {}

    private record Mapping(String path, Map<String, Value> values, int line) implements Value {}

    private Value parse(boolean json) {
        StreamReadConstraints limits = StreamReadConstraints.builder()
                .maxNestingDepth(MAX_DEPTH)
                .maxStringLength(MAX_CHARACTERS)
                .build();
        JsonFactory factory = json
                ? JsonFactory.builder()
                        .streamReadConstraints(limits)
                        .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
                        .build()
                : YAMLFactory.builder()
                        .streamReadConstraints(limits)
                        .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
                        .build();
        try (JsonParser parser = factory.createParser(text)) {
            if (parser.nextToken() == null) {
                throw new RecipeException(source
                        + ": is empty; a recipe has steps, for example: steps: [{method: stade, sparsity: 0.5}]");
            }
            Value value = value(parser, "");
            if (parser.nextToken() != null) {
                throw at(line(parser), "a second document begins; a recipe file holds exactly one");
            }
            return value;
        } catch (JsonProcessingException broken) {
            throw new RecipeException(source + notValid(broken, json), broken);
        } catch (IOException broken) {
            throw new RecipeException(source + ": cannot be read: " + broken.getMessage(), broken);
        }
    }

    private static String notValid(JsonProcessingException broken, boolean json) {
        if (json || !(broken instanceof JacksonYAMLParseException)) {
            return ": is not valid " + (json ? "JSON" : "YAML") + ": " + JsonFault.of(broken);
        }
        // a context and a problem, each followed by indented lines that show the place
        String problem = "";
        String line = "";
        for (String part : broken.getOriginalMessage().lines().toList()) {
            Matcher place = YAML_PLACE.matcher(part);
            if (place.find()) {
                line = " line " + place.group(1);
            } else if (!part.isBlank() && !Character.isWhitespace(part.charAt(0))) {
                problem = part;
            }
        }
        return line + ": is not valid YAML: " + problem;
    }

    private Value value(JsonParser parser, String path) throws IOException {
        int line = line(parser);
        if (parser instanceof YAMLParser yaml && (yaml.isCurrentAlias() || yaml.getObjectId() != null)) {
            throw at(
                    line,
                    "anchors and aliases (& and *) are not allowed in recipes; write the value out, and put"
                            + " patterns that begin with * in quotes");
        }
        JsonToken token = parser.currentToken();
        if (token == JsonToken.START_OBJECT) {
            Map<String, Value> values = new LinkedHashMap<>();
            while (parser.nextToken() != JsonToken.END_OBJECT) {
                String key = parser.currentName();
                parser.nextToken();
                values.put(key, value(parser, path.isEmpty() ? key : path + "." + key));
            }
            return new Mapping(path, values, line);
        }
        if (token == JsonToken.START_ARRAY) {
            List<Value> values = new ArrayList<>();
            while (parser.nextToken() != JsonToken.END_ARRAY) {
                values.add(value(parser, path + "[" + (values.size() + 1) + "]"));
            }
            return new Items(List.copyOf(values), line);
        }
        if (token == JsonToken.VALUE_NULL || parser.getText().isEmpty()) {
            throw at(line, path + " has no value; give one or remove the key");
        }
        return new Scalar(parser.getText(), line);
    }

    private static int line(JsonParser parser) {
        return parser.currentTokenLocation().getLineNr();
    }

    private RecipeException at(int line, String message) {
        return new RecipeException(source + " line " + line + ": " + message);
    }

    // ---- values to records

    private Recipe recipe(Value root) {
        if (!(root instanceof Mapping top)) {
            throw at(root.line(), "a recipe is a mapping with the keys " + String.join(", ", TOP_KEYS));
        }
        known(top, TOP_KEYS);
        if (!(top.values().get("steps") instanceof Items items)) {
            throw at(top.line(), "steps is missing or not a list; give at least one step, for example - method: stade");
        }
        List<Recipe.Step> steps = new ArrayList<>();
        Optional<Easier> easier = Optional.empty();
        Optional<Recipe.Quantizing> quantize = Optional.empty();
        for (Value item : items.values()) {
            if (quantize.isPresent()) {
                throw at(item.line(), "nothing can follow the step that quantizes: put it last, and once");
            }
            if (item instanceof Mapping step && isOf(step, Recipe.Quantizing.KEY)) {
                known(step, QUANTIZE_KEYS);
                quantize = Optional.of(quantizing(step, step.line()));
            } else if (easier.isPresent()) {
                throw at(
                        item.line(),
                        "only a step that quantizes can follow method easier, which is there once: put those that"
                                + " prune before it");
            } else if (item instanceof Mapping step && isOf(step, Easier.KEY)) {
                known(step, EASIER_KEYS);
                easier = Optional.of(easier(step));
            } else {
                steps.add(step(item, steps.size() + 1));
            }
        }
        return new Recipe(
                integer(top, "seed", 0, 0, Long.MAX_VALUE),
                steps,
                easier,
                quantize,
                calibration(top),
                images(top),
                choice(top, "storage", Storage.class, Storage.DENSE),
                quality(top),
                text);
    }

    private static boolean isOf(Mapping step, String key) {
        return step.values().get("method") instanceof Scalar(String name, int _) && name.equals(key);
    }

    private Easier easier(Mapping step) {
        Easier.Mode mode = choice(step, "mode", Easier.Mode.class, Easier.Mode.FINE_TUNE);
        boolean tuned = mode == Easier.Mode.FINE_TUNE;
        for (String key : TUNING_KEYS) {
            belongs(step, key, tuned, "mode: fine-tune");
        }
        if (!tuned && !step.values().containsKey("layers")) {
            throw at(
                    step.line(),
                    step.path() + " has no layers; give how many activations mode one-shot makes linear, for example"
                            + " layers: 2");
        }
        Entropy.Rule rule = choice(step, "entropy", Entropy.Rule.class, Entropy.Rule.DEFAULT);
        belongs(step, "batch", tuned || rule == Entropy.Rule.EASIER_REPO, "mode: fine-tune or entropy: easier-repo");
        Easier.Tuning usual = Easier.Tuning.DEFAULT;
        try {
            return new Easier(
                    mode,
                    (int) integer(step, "layers", Integer.MAX_VALUE, tuned ? 1 : 0, Integer.MAX_VALUE),
                    decimal(step, "delta").map(BigDecimal::doubleValue).orElse(0.01),
                    patterns(step, "targets"),
                    patterns(step, "ignore"),
                    choice(
                            step,
                            "linearise",
                            Linearization.Form.class,
                            tuned ? Linearization.Form.IDENTITY : Linearization.Form.AFFINE),
                    rule,
                    choice(step, "merge", Easier.Merging.class, Easier.Merging.AUTO),
                    choice(step, "order", Easier.Order.class, Easier.Order.LOWEST),
                    truth(step, "zero_entropy_all").orElse(false),
                    (int) integer(step, "batch", 128, tuned ? 2 : 1, 1_000_000),
                    new Easier.Tuning(
                            (int) integer(step, "epochs", usual.epochs(), 1, 1_000_000),
                            decimal(step, "learning_rate")
                                    .map(BigDecimal::doubleValue)
                                    .orElse(usual.learningRate()),
                            decimal(step, "momentum")
                                    .map(BigDecimal::doubleValue)
                                    .orElse(usual.momentum()),
                            decimal(step, "decay").map(BigDecimal::doubleValue).orElse(usual.decay()),
                            choice(step, "schedule", Schedule.class, usual.schedule()),
                            (int) integer(step, "shift", usual.shift(), 0, 64),
                            truth(step, "flip").orElse(usual.flip()),
                            (int) integer(step, "samples", usual.samples(), 1, Integer.MAX_VALUE),
                            (int) integer(step, "valid", usual.valid(), 1, Integer.MAX_VALUE)));
        } catch (RecipeException refused) {
            throw refused.getMessage().startsWith(source)
                    ? refused
                    : new RecipeException(
                            source + " line " + step.line() + ": " + step.path() + ": " + refused.getMessage(),
                            refused);
        }
    }

    private Recipe.Step step(Value value, int number) {
        if (!(value instanceof Mapping step)) {
            throw at(value.line(), "step " + number + " is not a mapping; write for example - method: stade");
        }
        Recipe.Method method = method(step, number);
        List<String> keys = STEP_KEYS.get(method);
        for (Map.Entry<String, Value> entry : step.values().entrySet()) {
            String key = entry.getKey();
            Optional<Recipe.Method> owner = Stream.of(Recipe.Method.values())
                    .filter(other -> STEP_KEYS.get(other).contains(key))
                    .findFirst();
            if (owner.isPresent() && !keys.contains(key)) {
                throw at(
                        entry.getValue().line(),
                        step.path() + "." + key + " is a parameter of "
                                + owner.get().key() + ", not of " + method.key() + "; remove it");
            }
        }
        known(step, keys);

        Recipe.Pattern pattern = pattern(step);
        Recipe.Variant variant = null;
        Recipe.Bias bias = null;
        double threshold = 0.1;
        if (method == Recipe.Method.STADE) {
            variant = choice(step, "variant", Recipe.Variant.class, Recipe.Variant.STADE);
            bias = choice(step, "bias", Recipe.Bias.class, Recipe.Bias.AUTO);
            threshold = decimal(step, "threshold").map(BigDecimal::doubleValue).orElse(threshold);
            belongs(step, "threshold", variant == Recipe.Variant.POLICY, "variant: policy");
        }
        List<String> targets = patterns(step, "targets");
        List<String> ignore = patterns(step, "ignore");
        BigDecimal sparsity = sparsity(step, pattern);
        boolean sweeping = method == Recipe.Method.SPARSEGPT;
        boolean wholeMatrix = sweeping || method == Recipe.Method.ATTENTION;
        Recipe.Scope usual = wholeMatrix && pattern == null ? Recipe.Scope.LAYER : Recipe.Scope.ROW;
        Recipe.Scope scope = choice(step, "scope", Recipe.Scope.class, usual);
        try {
            return new Recipe.Step(
                    method,
                    targets,
                    ignore,
                    sparsity,
                    scope,
                    pattern,
                    variant,
                    threshold,
                    bias,
                    sweeping ? sweep(step) : null,
                    method == Recipe.Method.ATTENTION ? attention(step) : null);
        } catch (RecipeException refused) {
            throw new RecipeException(
                    source + " line " + step.line() + ": " + step.path() + ": " + refused.getMessage(), refused);
        }
    }

    private Recipe.Quantizing quantizing(Mapping step, int line) {
        Quantization usual = Quantization.RECOMMENDED;
        try {
            return new Recipe.Quantizing(
                    patterns(step, "targets"),
                    patterns(step, "ignore"),
                    new Quantization(
                            choice(step, "keep", Quantization.Keep.class, usual.keep()),
                            truth(step, "fold").orElse(usual.fold()),
                            truth(step, "relu6").orElse(usual.relu6()),
                            truth(step, "equalize").orElse(usual.equalize()),
                            truth(step, "absorb").orElse(usual.absorb()),
                            choice(step, "smooth", Quantization.Smooth.class, usual.smooth()),
                            choice(step, "weights", Quantization.Weights.class, usual.weights()),
                            choice(step, "weight_range", Quantization.WeightRange.class, usual.weightRange()),
                            truth(step, "weight_correction").orElse(usual.weightCorrection()),
                            choice(step, "activations", Quantization.ActivationKind.class, usual.activations()),
                            choice(
                                    step,
                                    "activation_range",
                                    Quantization.ActivationRange.class,
                                    usual.activationRange()),
                            decimal(step, "percentile")
                                    .map(BigDecimal::doubleValue)
                                    .orElse(usual.percentile()),
                            unify(step, usual.unify()),
                            choice(step, "bias_correction", Quantization.BiasCorrection.class, usual.biasCorrection()),
                            choice(step, "first", Precision.class, Precision.INT8) == Precision.FLOAT,
                            choice(step, "last", Precision.class, Precision.INT8) == Precision.FLOAT,
                            choice(step, "format", Quantization.Form.class, usual.form())));
        } catch (IllegalArgumentException refused) {
            throw new RecipeException(
                    source + " line " + line + ": " + step.path() + ": " + refused.getMessage(), refused);
        }
    }

    /** What the first and the last layer compute in. */
    private enum Precision {
        INT8,
        FLOAT
    }

    private List<Quantization.Unify> unify(Mapping step, List<Quantization.Unify> usual) {
        Value value = step.values().get("unify");
        if (value == null) {
            return usual;
        }
        String path = step.path() + ".unify";
        if (!(value instanceof Items(List<Value> items, int line))) {
            throw at(value.line(), path + " is a list of add and concat, for example [concat]; [] for none");
        }
        return items.stream()
                .map(item -> choice(
                        new Mapping(step.path(), Map.of("unify", item), line), "unify", Quantization.Unify.class, null))
                .toList();
    }

    private Images images(Mapping top) {
        Images usual = Images.DEFAULT;
        return section(top, "images", IMAGES_KEYS)
                .map(given -> {
                    try {
                        return new Images(
                                size(given, "height"),
                                size(given, "width"),
                                choice(given, "order", Images.Order.class, usual.order()),
                                choice(given, "fit", Images.Fit.class, usual.fit()),
                                decimal(given, "scale")
                                        .map(BigDecimal::doubleValue)
                                        .orElse(usual.scale()),
                                decimals(given, "mean", usual.mean()),
                                decimals(given, "deviation", usual.deviation()));
                    } catch (RecipeException refused) {
                        throw new RecipeException(
                                source + " line " + given.line() + ": " + refused.getMessage(), refused);
                    }
                })
                .orElse(usual);
    }

    private Optional<Integer> size(Mapping images, String key) {
        return images.values().containsKey(key)
                ? Optional.of((int) integer(images, key, 1, 1, 1 << 14))
                : Optional.empty();
    }

    private List<Double> decimals(Mapping mapping, String key, List<Double> usual) {
        Value value = mapping.values().get(key);
        if (value == null) {
            return usual;
        }
        List<Value> items = value instanceof Items list ? list.values() : List.of(value);
        return items.stream()
                .map(item -> decimal(new Mapping(mapping.path(), Map.of(key, item), item.line()), key)
                        .orElseThrow()
                        .doubleValue())
                .toList();
    }

    private Recipe.Sweep sweep(Mapping step) {
        Recipe.Sweep usual = Recipe.Sweep.DEFAULT;
        return new Recipe.Sweep(
                (int) integer(step, "block", usual.block(), 1, Integer.MAX_VALUE),
                decimal(step, "damping").map(BigDecimal::doubleValue).orElse(usual.damping()));
    }

    private Recipe.Attention attention(Mapping step) {
        Recipe.Descent descent = choice(step, "descent", Recipe.Descent.class, Recipe.Descent.STRAIGHT_THROUGH);
        boolean soft = descent == Recipe.Descent.SOFT;
        boolean straight = descent == Recipe.Descent.STRAIGHT_THROUGH;
        belongs(step, "penalty", soft, "descent: soft");
        belongs(step, "rate", straight, "descent: straight-through");
        belongs(step, "windows", straight, "descent: straight-through");
        belongs(step, "iterations", soft || straight, "descent: straight-through or soft");
        return new Recipe.Attention(
                descent,
                choice(
                        step,
                        "start",
                        Recipe.Start.class,
                        descent == Recipe.Descent.SALIENCY ? Recipe.Start.SALIENCY : Recipe.Start.AUTO),
                soft || straight ? (int) integer(step, "iterations", 100, 1, 1_000_000) : 0,
                decimal(step, "rate").map(BigDecimal::doubleValue).orElse(0.01),
                (int) integer(step, "windows", 32, 1, 1_000_000),
                decimal(step, "penalty").map(BigDecimal::doubleValue).orElse(0.2));
    }

    private void belongs(Mapping step, String key, boolean here, String owner) {
        Value given = step.values().get(key);
        if (given != null && !here) {
            throw at(given.line(), step.path() + "." + key + " belongs to " + owner + "; remove one of them");
        }
    }

    private Recipe.Method method(Mapping step, int number) {
        List<String> names = Stream.concat(
                        Stream.of(Recipe.Method.values()).map(Recipe.Method::key),
                        Stream.of(Easier.KEY, Recipe.Quantizing.KEY))
                .toList();
        if (!(step.values().get("method") instanceof Scalar(String name, int line))) {
            throw at(step.line(), "step " + number + " has no method; give one of " + String.join(", ", names));
        }
        if (!names.contains(name)) {
            throw at(
                    line,
                    step.path() + ".method: there is no method " + name + "; the nearest is " + Nearest.to(name, names)
                            + " (of " + String.join(", ", names) + ")");
        }
        return Stream.of(Recipe.Method.values())
                .filter(method -> method.key().equals(name))
                .findFirst()
                .orElseThrow();
    }

    private BigDecimal sparsity(Mapping step, Recipe.Pattern pattern) {
        Optional<BigDecimal> given = decimal(step, "sparsity");
        if (pattern == null) {
            return given.orElseThrow(() -> at(
                    step.line(),
                    step.path() + " has no sparsity; give the share of weights to prune, for example sparsity: 0.5"));
        }
        BigDecimal removed = BigDecimal.valueOf(pattern.removed());
        BigDecimal of = BigDecimal.valueOf(pattern.of());
        if (given.isPresent() && given.get().multiply(of).compareTo(removed) != 0) {
            throw at(
                    step.values().get("sparsity").line(),
                    step.path() + ": sparsity " + given.get() + " contradicts pattern " + pattern + ", which prunes "
                            + pattern.removed() + " of " + pattern.of() + "; leave sparsity out");
        }
        return given.orElseGet(
                () -> removed.divide(of, Recipe.MAX_DECIMALS, RoundingMode.DOWN).stripTrailingZeros());
    }

    private Recipe.Pattern pattern(Mapping step) {
        Value value = step.values().get("pattern");
        if (value == null) {
            return null;
        }
        String name = scalar(value, step.path() + ".pattern");
        if (name.equals("unstructured")) {
            return null;
        }
        if (!name.matches("[1-9][0-9]{0,3}:[1-9][0-9]{0,3}")) {
            throw at(
                    value.line(),
                    step.path() + ".pattern is unstructured or N:M (N of M consecutive columns are"
                            + " removed, 1 <= N < M), for example \"2:4\"; not " + name);
        }
        int colon = name.indexOf(':');
        try {
            return new Recipe.Pattern(
                    Integer.parseInt(name.substring(0, colon)), Integer.parseInt(name.substring(colon + 1)));
        } catch (RecipeException refused) {
            throw new RecipeException(
                    source + " line " + value.line() + ": " + step.path() + "." + refused.getMessage(), refused);
        }
    }

    private List<String> patterns(Mapping step, String key) {
        Value value = step.values().get(key);
        if (value == null) {
            return List.of();
        }
        String path = step.path() + "." + key;
        if (!(value instanceof Items(List<Value> items, int line)) || items.isEmpty()) {
            throw at(value.line(), path + " is a list of patterns, for example [\"*.q_proj\", \"*.k_proj\"]");
        }
        List<String> patterns = new ArrayList<>();
        for (Value item : items) {
            String pattern = scalar(item, path);
            if (pattern.isEmpty() || pattern.length() > MAX_PATTERN_LENGTH) {
                throw at(line, path + ": a pattern has 1 to " + MAX_PATTERN_LENGTH + " characters");
            }
            patterns.add(pattern);
        }
        return patterns;
    }

    private Recipe.Calibration calibration(Mapping top) {
        Recipe.Calibration usual = Recipe.Calibration.DEFAULT;
        return section(top, "calibration", List.of("samples", "length", "sequential"))
                .map(given -> new Recipe.Calibration(
                        (int) integer(given, "samples", usual.samples(), 1, 1_000_000),
                        (int) integer(given, "length", usual.length(), 2, 1_000_000),
                        truth(given, "sequential")))
                .orElse(usual);
    }

    private Recipe.Quality quality(Mapping top) {
        return section(top, "quality", List.of("max_perplexity_increase", "min_cosine"))
                .map(given -> new Recipe.Quality(
                        gate(given, "max_perplexity_increase", 0, 1e6), gate(given, "min_cosine", -1, 1)))
                .orElse(Recipe.Quality.NONE);
    }

    private Optional<Double> gate(Mapping quality, String key, double least, double most) {
        Optional<Double> gate = decimal(quality, key).map(BigDecimal::doubleValue);
        if (gate.isPresent() && !(gate.get() >= least && gate.get() <= most)) {
            throw at(
                    quality.values().get(key).line(),
                    "quality." + key + " must lie in [" + least + ", " + most + "], not " + gate.get());
        }
        return gate;
    }

    // ---- single values

    private void known(Mapping mapping, List<String> keys) {
        for (Map.Entry<String, Value> entry : mapping.values().entrySet()) {
            if (!keys.contains(entry.getKey())) {
                String path = mapping.path().isEmpty() ? entry.getKey() : mapping.path() + "." + entry.getKey();
                throw at(
                        entry.getValue().line(),
                        "unknown key " + path + "; the nearest is " + Nearest.to(entry.getKey(), keys)
                                + " (known here: " + String.join(", ", keys) + ")");
            }
        }
    }

    private Optional<Mapping> section(Mapping top, String key, List<String> keys) {
        Value value = top.values().get(key);
        if (value == null) {
            return Optional.empty();
        }
        if (!(value instanceof Mapping section)) {
            throw at(value.line(), key + " is a mapping with the keys " + String.join(", ", keys));
        }
        known(section, keys);
        return Optional.of(section);
    }

    private String scalar(Value value, String path) {
        if (!(value instanceof Scalar(String content, int line))) {
            throw at(value.line(), path + " is a single value, not a list or a mapping");
        }
        return content;
    }

    private <E extends Enum<E>> E choice(Mapping mapping, String key, Class<E> type, E usual) {
        Value value = mapping.values().get(key);
        if (value == null) {
            return usual;
        }
        String path = mapping.path().isEmpty() ? key : mapping.path() + "." + key;
        String name = scalar(value, path);
        List<String> names = Stream.of(type.getEnumConstants())
                .map(choice -> choice.name().toLowerCase(Locale.ROOT).replace('_', '-'))
                .toList();
        int index = names.indexOf(name);
        if (index < 0) {
            throw at(
                    value.line(),
                    path + " cannot be " + name + "; the nearest is " + Nearest.to(name, names) + " (of "
                            + String.join(", ", names) + ")");
        }
        return type.getEnumConstants()[index];
    }

    private Optional<Boolean> truth(Mapping mapping, String key) {
        Value value = mapping.values().get(key);
        if (value == null) {
            return Optional.empty();
        }
        return switch (scalar(value, mapping.path() + "." + key)) {
            case "true" -> Optional.of(true);
            case "false" -> Optional.of(false);
            case String other -> throw at(value.line(), mapping.path() + "." + key + " is true or false, not " + other);
        };
    }

    private long integer(Mapping mapping, String key, long usual, long least, long most) {
        Value value = mapping.values().get(key);
        if (value == null) {
            return usual;
        }
        String path = mapping.path().isEmpty() ? key : mapping.path() + "." + key;
        String digits = scalar(value, path);
        if (digits.matches("0|[1-9][0-9]{0,18}")) {
            BigDecimal number = new BigDecimal(digits);
            if (number.compareTo(BigDecimal.valueOf(least)) >= 0 && number.compareTo(BigDecimal.valueOf(most)) <= 0) {
                return number.longValueExact();
            }
        }
        throw at(value.line(), path + " is a whole number from " + least + " to " + most + ", not " + digits);
    }

    private Optional<BigDecimal> decimal(Mapping mapping, String key) {
        Value value = mapping.values().get(key);
        if (value == null) {
            return Optional.empty();
        }
        String path = mapping.path() + "." + key;
        String digits = scalar(value, path);
        if (digits.length() > MAX_NUMBER_LENGTH
                || !digits.matches("-?([0-9]+(\\.[0-9]*)?|\\.[0-9]+)([eE][-+]?[0-9]{1,2})?")) {
            throw at(value.line(), path + " is a decimal number such as 0.5, not " + digits);
        }
        BigDecimal number = new BigDecimal(digits);
        if (number.scale() > Recipe.MAX_DECIMALS) {
            throw at(
                    value.line(),
                    path + " has more than " + Recipe.MAX_DECIMALS + " digits after the point: " + digits);
        }
        return Optional.of(number);
    }
}

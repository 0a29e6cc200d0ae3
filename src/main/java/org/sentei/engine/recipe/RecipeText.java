package org.sentei.engine.recipe;

import com.fasterxml.jackson.core.JacksonException;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonMappingException;
import com.fasterxml.jackson.databind.MapperFeature;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import com.fasterxml.jackson.databind.exc.InvalidFormatException;
import com.fasterxml.jackson.dataformat.yaml.YAMLMapper;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** Where recipes of all kinds come from, and how those become records whose keys are fixed. */
public final class RecipeText {
    private static final YAMLMapper RECORDS = YAMLMapper.builder()
            .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .enable(MapperFeature.ACCEPT_CASE_INSENSITIVE_ENUMS)
            .enable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
            .enable(DeserializationFeature.FAIL_ON_MISSING_CREATOR_PROPERTIES)
            .enable(DeserializationFeature.FAIL_ON_NULL_CREATOR_PROPERTIES)
            .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
            .build();

    private static final int LONGEST_QUOTE = 60;

    private RecipeText() {}

    /** A recipe that Sentei brings along: a resource beside a class. */
    public static String builtIn(Class<?> beside, String resource) {
        try (InputStream stream = beside.getResourceAsStream(resource)) {
            if (stream == null) {
                throw new IllegalStateException("resource " + resource + " is missing from the jar");
            }
            return new String(stream.readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException failed) {
            throw new UncheckedIOException("resource " + resource + " cannot be read", failed);
        }
    }

    /**
     * A recipe of one's own.
     *
     * @param most characters it may have
     * @throws RecipeException when it is longer, not there, or no UTF-8 text
     */
    public static String of(Path file, int most) {
        try (InputStream stream = Files.newInputStream(file)) {
            // One character more than allowed, in UTF-8's longest form, is enough to see that the file is too long.
            byte[] bytes = stream.readNBytes(4 * (most + 1));
            String text = StandardCharsets.UTF_8
                    .newDecoder()
                    .decode(ByteBuffer.wrap(bytes))
                    .toString();
            if (text.length() > most) {
                throw new RecipeException(
                        "recipe " + file + ": is longer than the " + most + " characters that such a recipe may have");
            }
            return text;
        } catch (CharacterCodingException malformed) {
            throw new RecipeException("recipe " + file + ": is not UTF-8 text; give a YAML or JSON file", malformed);
        } catch (IOException failed) {
            throw new RecipeException("recipe " + file + ": cannot be read: " + failed.getMessage(), failed);
        }
    }

    /**
     * Reads YAML, or JSON, into a record: every key must be one of its components, and none may be missing.
     *
     * @param source what messages name
     * @param start where a recipe can be begun from, for who gives an empty one
     * @throws RecipeException with line, key and fact when the text does not fit
     */
    public static <T extends Record> T read(String source, String text, Class<T> type, String start) {
        try {
            T read = RECORDS.readValue(text, type);
            if (read == null) {
                throw new RecipeException(source + ": is empty; start from " + start);
            }
            return read;
        } catch (JacksonException broken) {
            String line = broken.getLocation() == null
                    ? ""
                    : " line " + broken.getLocation().getLineNr();
            throw new RecipeException(
                    source + line + ": " + key(broken)
                            + fact(broken).lines().findFirst().orElse("is not valid YAML"),
                    broken);
        }
    }

    /** In words for the recipe's author, where the parser's are about its own classes. */
    private static String fact(JacksonException broken) {
        String said = broken.getOriginalMessage();
        return switch (broken) {
            case JacksonException refused
            when refused.getCause() instanceof IllegalArgumentException wrong -> wrong.getMessage();
            case JacksonException refused
            when refused.getCause() instanceof RecipeException wrong -> wrong.getMessage();
            case InvalidFormatException value -> {
                int accepted = said.lastIndexOf('[');
                String given = String.valueOf(value.getValue());
                yield "\"" + given.substring(0, Math.min(given.length(), LONGEST_QUOTE))
                        + "\" is no value that it takes"
                        + (value.getTargetType().isEnum() && accepted >= 0
                                ? "; it takes one of " + said.substring(accepted)
                                : "");
            }
            case JacksonException kind
            when said.startsWith("Cannot deserialize") || said.startsWith("Cannot construct") ->
                "its value is not of the kind that it takes";
            default -> said;
        };
    }

    private static String key(JacksonException broken) {
        if (!(broken instanceof JsonMappingException mapping)
                || mapping.getPath().isEmpty()) {
            return "";
        }
        String name = mapping.getPath().getLast().getFieldName();
        return name == null ? "" : name + ": ";
    }
}

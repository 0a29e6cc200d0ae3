package org.sentei.format;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.core.json.JsonReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;

/** JSON of files that may be hostile: UTF-8 alone, duplicate keys refused, nesting and lengths bounded. */
final class Json {
    private static final JsonMapper MAPPER = JsonMapper.builder(JsonFactory.builder()
                    .disable(JsonFactory.Feature.CHARSET_DETECTION)
                    .disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
                    .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
                    .disable(StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION)
                    // Python writes infinities as Infinity, and real configurations have them
                    .enable(JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS)
                    .streamReadConstraints(StreamReadConstraints.builder()
                            .maxNestingDepth(64)
                            .maxNameLength(1 << 16)
                            .maxStringLength(1 << 24)
                            .maxNumberLength(100)
                            .build())
                    .build())
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .build();

    private static final ObjectReader VALUES =
            MAPPER.readerFor(JsonNode.class).without(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);

    private Json() {}

    /**
     * All of a small file.
     *
     * @param maxBytes refuses longer files before reading them
     * @throws FormatException when the file is absent, no regular file, longer, or cannot be read
     */
    static byte[] bytes(Path file, int maxBytes) {
        if (!Files.isRegularFile(file)) {
            throw new FormatException(file + (Files.exists(file) ? " is no regular file" : " does not exist")
                    + ": give the file that belongs to the model");
        }
        try (InputStream in = Files.newInputStream(file)) {
            byte[] bytes = in.readNBytes(maxBytes + 1);
            if (bytes.length > maxBytes) {
                throw new FormatException(file + " is longer than the " + maxBytes
                        + " bytes such a file may have: it is damaged or no model file");
            }
            return bytes;
        } catch (IOException e) {
            throw new FormatException(file + " cannot be read (" + e + "): check its permissions", e);
        }
    }

    /**
     * A whole document as plain Java values.
     *
     * @param source named in errors
     * @throws FormatException when it is no JSON object
     */
    static Map<String, Object> object(byte[] document, Object source) {
        try (JsonParser parser = parser(document)) {
            expect(parser.nextToken(), JsonToken.START_OBJECT, "the document", source);
            @SuppressWarnings("unchecked") // Jackson reads JSON objects into maps with String keys
            Map<String, Object> values = MAPPER.readValue(parser, Map.class);
            return values;
        } catch (IOException e) {
            throw damaged(source, e);
        }
    }

    /** A parser over a document held in memory. */
    static JsonParser parser(byte[] document) throws IOException {
        return MAPPER.createParser(document);
    }

    /** The value at which a parser stands. */
    static JsonNode tree(JsonParser parser) throws IOException {
        return VALUES.readValue(parser);
    }

    /** The value as compact JSON. */
    static String text(Object value) {
        try {
            return MAPPER.writeValueAsString(value);
        } catch (IOException e) {
            throw new IllegalArgumentException("no JSON value: " + value, e);
        }
    }

    static void expect(JsonToken actual, JsonToken wanted, String what, Object source) {
        if (actual != wanted) {
            throw new FormatException(source + ": " + what + " must be "
                    + switch (wanted) {
                        case START_OBJECT -> "a JSON object";
                        case START_ARRAY -> "an array";
                        case VALUE_STRING -> "a string";
                        case VALUE_NUMBER_INT -> "an integer";
                        default -> throw new IllegalArgumentException(wanted.name());
                    }
                    + "; the file is damaged: fetch it again");
        }
    }

    static void expectEnd(JsonParser parser, Object source) throws IOException {
        if (parser.nextToken() != null) {
            throw new FormatException(source + " goes on after its JSON object: it is damaged, fetch it again");
        }
    }

    static FormatException damaged(Object source, IOException cause) {
        return new FormatException(
                source + " holds no valid JSON (" + JsonFault.of(cause) + "): the file is damaged, fetch it again",
                cause);
    }
}

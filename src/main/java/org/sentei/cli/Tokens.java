package org.sentei.cli;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.sentei.format.FormatException;
import org.sentei.format.JsonFault;

/**
 * The input of a forward pass.
 *
 * @param inputIds one row a sequence
 * @param attentionMask null when nothing is padded
 */
record Tokens(List<int[]> inputIds, List<int[]> attentionMask) {
    private static final String EXAMPLE = "{\"input_ids\": [[1, 2, 3]], \"attention_mask\": [[1, 1, 1]]}";
    private static final JsonFactory JSON = JsonFactory.builder()
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .build();

    /**
     * Reads a JSON file.
     *
     * @throws FormatException when it is missing or of another form
     */
    static Tokens read(Path file) {
        byte[] bytes = SmallFile.bytes("input", file);
        try (JsonParser parser = JSON.createParser(bytes)) {
            if (parser.nextToken() != JsonToken.START_OBJECT) {
                throw malformed(file, "it is no object", null);
            }
            List<int[]> inputIds = null;
            List<int[]> attentionMask = null;
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                switch (parser.currentName()) {
                    case "input_ids" -> inputIds = rows(file, parser);
                    case "attention_mask" -> attentionMask = rows(file, parser);
                    case String other -> throw malformed(file, "there is no key " + other, null);
                }
            }
            if (parser.nextToken() != null) {
                throw malformed(file, "something follows the object", null);
            }
            if (inputIds == null) {
                throw malformed(file, "it has no input_ids", null);
            }
            return new Tokens(inputIds, attentionMask);
        } catch (IOException broken) {
            throw malformed(file, JsonFault.of(broken), broken);
        }
    }

    /** The value that follows a key: null, or an array of arrays of integers. */
    private static List<int[]> rows(Path file, JsonParser parser) throws IOException {
        String key = parser.currentName();
        if (parser.nextToken() == JsonToken.VALUE_NULL) {
            return null;
        }
        expect(parser.currentToken() == JsonToken.START_ARRAY, file, key);
        List<int[]> rows = new ArrayList<>();
        int[] row = new int[16];
        while (parser.nextToken() != JsonToken.END_ARRAY) {
            expect(parser.currentToken() == JsonToken.START_ARRAY, file, key);
            int length = 0;
            while (parser.nextToken() != JsonToken.END_ARRAY) {
                expect(parser.currentToken() == JsonToken.VALUE_NUMBER_INT, file, key);
                if (length == row.length) {
                    row = Arrays.copyOf(row, 2 * length);
                }
                row[length++] = parser.getIntValue();
            }
            rows.add(Arrays.copyOf(row, length));
        }
        return rows;
    }

    private static void expect(boolean integers, Path file, String key) {
        if (!integers) {
            throw malformed(file, key + " is no array of arrays of integers", null);
        }
    }

    private static FormatException malformed(Path file, String fact, IOException cause) {
        return new FormatException("input " + file + " is not of the form " + EXAMPLE + ": " + fact, cause);
    }

    /** The rows as the engine takes them; null stays null. */
    static int[][] array(List<int[]> rows) {
        return rows == null ? null : rows.toArray(int[][]::new);
    }
}

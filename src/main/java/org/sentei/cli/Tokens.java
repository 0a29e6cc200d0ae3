package org.sentei.cli;

import com.fasterxml.jackson.annotation.JsonSetter;
import com.fasterxml.jackson.annotation.Nulls;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import com.fasterxml.jackson.databind.cfg.CoercionAction;
import com.fasterxml.jackson.databind.cfg.CoercionInputShape;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.type.LogicalType;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.sentei.format.FormatException;

/**
 * The input of a forward pass.
 *
 * @param inputIds one row a sequence
 * @param attentionMask null when nothing is padded
 */
record Tokens(List<List<Integer>> inputIds, List<List<Integer>> attentionMask) {
    private static final String EXAMPLE = "{\"input_ids\": [[1, 2, 3]], \"attention_mask\": [[1, 1, 1]]}";
    private static final int MAX_BYTES = 64 << 20;
    private static final ObjectMapper MAPPER = JsonMapper.builder()
            .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .enable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .defaultSetterInfo(JsonSetter.Value.forContentNulls(Nulls.FAIL))
            .withCoercionConfig(
                    LogicalType.Integer,
                    config -> config.setCoercion(CoercionInputShape.Float, CoercionAction.Fail)
                            .setCoercion(CoercionInputShape.String, CoercionAction.Fail)
                            .setCoercion(CoercionInputShape.Boolean, CoercionAction.Fail))
            .build();

    /**
     * Reads a JSON file.
     *
     * @throws FormatException when it is missing or of another form
     */
    static Tokens read(Path file) {
        try (InputStream stream = Files.newInputStream(file)) {
            byte[] bytes = stream.readNBytes(MAX_BYTES + 1);
            if (bytes.length > MAX_BYTES) {
                throw new FormatException("input " + file + " is larger than " + MAX_BYTES + " bytes; split it");
            }
            Tokens tokens = MAPPER.readValue(bytes, Tokens.class);
            if (tokens == null || tokens.inputIds() == null) {
                throw new FormatException("input " + file + " has no input_ids; give for example " + EXAMPLE);
            }
            return tokens;
        } catch (JsonProcessingException wrong) {
            String fact = wrong.getOriginalMessage().lines().findFirst().orElse("");
            throw new FormatException("input " + file + " is not of the form " + EXAMPLE + ": " + fact, wrong);
        } catch (IOException failed) {
            throw new FormatException("input " + file + " cannot be read: " + failed, failed);
        }
    }

    /** The rows as the engine takes them; null stays null. */
    static int[][] array(List<List<Integer>> rows) {
        return rows == null
                ? null
                : rows.stream()
                        .map(row -> row.stream().mapToInt(Integer::intValue).toArray())
                        .toArray(int[][]::new);
    }
}

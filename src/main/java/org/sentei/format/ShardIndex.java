package org.sentei.format;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.OptionalLong;

/**
 * What {@code model.safetensors.index.json} says.
 *
 * @param weightMap tensor to the name of its shard, every name a plain file name; not empty
 * @param totalSize bytes of all tensors, as far as the index tells
 */
record ShardIndex(Map<String, String> weightMap, OptionalLong totalSize) {
    /** Up to here a double holds every integer. */
    private static final double MAX_TOTAL_SIZE = 0x1p53;

    private static final int MAX_TENSORS = 1_000_000;

    /**
     * Reads an index.
     *
     * @param file named in errors
     * @throws FormatException when it is damaged, or a shard would lie outside of the folder
     */
    static ShardIndex parse(byte[] document, Path file) {
        Map<String, String> weightMap = new LinkedHashMap<>();
        OptionalLong totalSize = OptionalLong.empty();
        try (JsonParser parser = Json.parser(document)) {
            Json.expect(parser.nextToken(), JsonToken.START_OBJECT, "the document", file);
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                String key = parser.currentName();
                JsonToken value = parser.nextToken();
                switch (key) {
                    case "weight_map" -> readWeightMap(parser, value, file, weightMap);
                    case "metadata" -> totalSize = readTotalSize(parser, value, file);
                    default -> parser.skipChildren();
                }
            }
            Json.expectEnd(parser, file);
        } catch (IOException e) {
            throw Json.damaged(file, e);
        }
        if (weightMap.isEmpty()) {
            throw new FormatException(file + " has no weight_map: fetch it again");
        }
        return new ShardIndex(weightMap, totalSize);
    }

    private static void readWeightMap(JsonParser parser, JsonToken value, Path file, Map<String, String> weightMap)
            throws IOException {
        Json.expect(value, JsonToken.START_OBJECT, "weight_map", file);
        Map<String, String> shards = new HashMap<>();
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String tensor = parser.currentName();
            Json.expect(parser.nextToken(), JsonToken.VALUE_STRING, "weight_map of " + tensor, file);
            String shard = parser.getText();
            if (!shards.containsKey(shard) && !isFileName(shard)) {
                throw new FormatException(file + " lists the shard \"" + shard
                        + "\", which is no plain file name: shards lie beside their index");
            }
            if (weightMap.size() == MAX_TENSORS) {
                throw new FormatException(file + " lists more than " + MAX_TENSORS + " tensors: it is damaged");
            }
            weightMap.put(tensor, shards.computeIfAbsent(shard, first -> first));
        }
    }

    private static OptionalLong readTotalSize(JsonParser parser, JsonToken value, Path file) throws IOException {
        Json.expect(value, JsonToken.START_OBJECT, "metadata", file);
        OptionalLong totalSize = OptionalLong.empty();
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            boolean wanted = parser.currentName().equals("total_size");
            JsonToken token = parser.nextToken();
            if (!wanted || !token.isNumeric()) {
                parser.skipChildren();
                continue;
            }
            // older writers wrote the size with a fraction
            double bytes = parser.getDoubleValue();
            if (!(bytes >= 0 && bytes <= MAX_TOTAL_SIZE)) {
                throw new FormatException(file + ": metadata.total_size is no number of bytes; fetch the file again");
            }
            totalSize = OptionalLong.of((long) bytes);
        }
        return totalSize;
    }

    private static boolean isFileName(String name) {
        if (name.isEmpty()
                || name.equals(".")
                || name.equals("..")
                || name.chars().anyMatch(c -> c == '/' || c == '\\' || c == ':' || Character.isISOControl(c))) {
            return false;
        }
        try {
            return Path.of(name).getNameCount() == 1;
        } catch (InvalidPathException e) {
            return false;
        }
    }
}

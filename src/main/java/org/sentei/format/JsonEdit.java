package org.sentei.format;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

/** Sets values inside a JSON document and leaves every other byte of it as it is. */
final class JsonEdit {
    private JsonEdit() {}

    /**
     * Replaces the values of these members, and appends the members that are new in the style of the last one.
     *
     * @param source named in errors
     * @param path keys that lead to the object to change; none means the document's own
     * @throws FormatException when the document is no valid JSON or has no object there
     */
    static byte[] put(byte[] document, Object source, Map<String, ?> members, String... path) {
        try (JsonParser parser = Json.parser(document)) {
            Json.expect(parser.nextToken(), JsonToken.START_OBJECT, "the document", source);
            for (String key : path) {
                enter(parser, key, source);
            }
            return edit(document, parser, members, key -> parser.skipChildren());
        } catch (IOException e) {
            throw Json.damaged(source, e);
        }
    }

    /** Reads the value of a member, at whose first token a parser stands, to its last token. */
    interface Reader {
        void read(String key) throws IOException;
    }

    private static void enter(JsonParser parser, String key, Object source) throws IOException {
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            boolean found = parser.currentName().equals(key);
            JsonToken value = parser.nextToken();
            if (found) {
                Json.expect(value, JsonToken.START_OBJECT, key, source);
                return;
            }
            parser.skipChildren();
        }
        throw new FormatException(source + " has no object " + key + ": the file is damaged, fetch it again");
    }

    /**
     * As {@link #put} in one object, while somebody reads all its members.
     *
     * @param parser of the document, at the start of the object; it ends at its end
     */
    static byte[] edit(byte[] document, JsonParser parser, Map<String, ?> members, Reader reader) throws IOException {
        Map<String, Object> added = new LinkedHashMap<>(members);
        ByteArrayOutputStream result = new ByteArrayOutputStream(document.length + 64 * members.size());
        int copied = 0;
        int lastEnd = begin(parser) + 1;
        String beforeName = "";
        String afterName = ":";
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            int name = begin(parser);
            String key = parser.currentName();
            Object replacement = added.remove(key);
            parser.nextToken();
            int value = begin(parser);
            reader.read(key);
            boolean structure = document[value] == '{' || document[value] == '[';
            int end = structure ? begin(parser) + 1 : scalarEnd(document, value);
            if (replacement != null) {
                result.write(document, copied, value - copied);
                result.writeBytes(bytes(Json.text(replacement)));
                copied = end;
            }
            beforeName = "," + text(document, whitespaceBefore(document, name), name);
            afterName = text(document, scalarEnd(document, name), value);
            lastEnd = end;
        }
        result.write(document, copied, Math.max(0, lastEnd - copied));
        for (Map.Entry<String, Object> member : added.entrySet()) {
            result.writeBytes(
                    bytes(beforeName + Json.text(member.getKey()) + afterName + Json.text(member.getValue())));
            if (beforeName.isEmpty()) {
                beforeName = ",";
            }
        }
        result.write(document, lastEnd, document.length - lastEnd);
        return result.toByteArray();
    }

    private static int begin(JsonParser parser) {
        return Math.toIntExact(parser.currentTokenLocation().getByteOffset());
    }

    /** Behind a scalar, or behind the document when that is cut short, of which the parser tells next. */
    private static int scalarEnd(byte[] document, int begin) {
        int end = begin + 1;
        if (document[begin] == '"') {
            while (end < document.length && document[end] != '"') {
                end += document[end] == '\\' ? 2 : 1;
            }
            return Math.min(end + 1, document.length);
        }
        while (end < document.length && ",]} \t\r\n".indexOf(document[end]) < 0) {
            end++;
        }
        return end;
    }

    private static int whitespaceBefore(byte[] document, int end) {
        int begin = end;
        while (" \t\r\n".indexOf(document[begin - 1]) >= 0) {
            begin--;
        }
        return begin;
    }

    private static String text(byte[] document, int begin, int end) {
        return new String(document, begin, end - begin, StandardCharsets.UTF_8);
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}

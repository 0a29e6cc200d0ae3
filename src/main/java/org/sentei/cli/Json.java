package org.sentei.cli;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectWriter;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;

/** The one document of {@code --json}, and lines of logs. */
final class Json {
    private static final ObjectMapper MAPPER = JsonMapper.builder()
            .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
            .enable(SerializationFeature.INDENT_OUTPUT)
            .build();

    private Json() {}

    /** Prints a record, keys in snake case and in its order. */
    static void print(Terminal terminal, Record document) {
        terminal.out().println(text(MAPPER.writer(), document));
    }

    /** The same in one line. */
    static String line(Record document) {
        return text(MAPPER.writer().without(SerializationFeature.INDENT_OUTPUT), document);
    }

    private static String text(ObjectWriter writer, Record document) {
        try {
            return writer.writeValueAsString(document);
        } catch (JsonProcessingException impossible) {
            throw new IllegalStateException("a result could not be written as JSON", impossible);
        }
    }
}

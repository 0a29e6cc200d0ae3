package org.sentei.cli;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;

/** The one document of {@code --json}. */
final class Json {
    private static final ObjectMapper MAPPER = JsonMapper.builder()
            .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
            .enable(SerializationFeature.INDENT_OUTPUT)
            .build();

    private Json() {}

    /** Prints a record, keys in snake case and in its order. */
    static void print(Terminal terminal, Record document) {
        try {
            terminal.out().println(MAPPER.writeValueAsString(document));
        } catch (JsonProcessingException impossible) {
            throw new IllegalStateException("a result could not be written as JSON", impossible);
        }
    }
}

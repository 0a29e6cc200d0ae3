package org.sentei.engine;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.module.SimpleModule;
import com.fasterxml.jackson.databind.ser.std.ToStringSerializer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Instant;

/** Writes what a run leaves beside its model: {@code report.json}, {@code report.html} and {@code recipe.yaml}. */
public final class ReportWriter {
    private static final ObjectMapper MAPPER = JsonMapper.builder()
            .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
            .addModule(new SimpleModule().addSerializer(Instant.class, new ToStringSerializer()))
            .enable(SerializationFeature.INDENT_OUTPUT)
            .build();

    private ReportWriter() {}

    /**
     * Writes the three files into an existing folder.
     *
     * @throws IOException when the folder does not take them; none of the three is left half written
     */
    public static void write(Path folder, Report report, Recipe recipe) throws IOException {
        String json = json(report);
        String html = ReportPage.render(report, recipe);
        put(folder.resolve("recipe.yaml"), recipe.text());
        put(folder.resolve("report.json"), json);
        put(folder.resolve("report.html"), html);
    }

    /** The report as JSON: keys in snake case, in the order of the record. */
    public static String json(Report report) {
        try {
            return MAPPER.writeValueAsString(report) + "\n";
        } catch (JsonProcessingException impossible) {
            throw new IllegalStateException("a report could not be written as JSON", impossible);
        }
    }

    private static void put(Path file, String content) throws IOException {
        Path whole = Files.createTempFile(file.getParent(), ".report", ".part");
        try {
            Files.writeString(whole, content);
            Files.move(whole, file, StandardCopyOption.ATOMIC_MOVE);
        } finally {
            Files.deleteIfExists(whole);
        }
    }
}

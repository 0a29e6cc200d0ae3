package org.sentei.engine.report;

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
import java.time.Instant;
import org.sentei.engine.recipe.Recipe;

/** Writes what a run leaves beside its model: {@code report.json}, {@code report.html} and {@code recipe.yaml}. */
public final class ReportWriter {
    private static final ObjectMapper MAPPER = JsonMapper.builder()
            .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
            .addModule(new SimpleModule().addSerializer(Instant.class, new ToStringSerializer()))
            .enable(SerializationFeature.INDENT_OUTPUT)
            .build();

    private ReportWriter() {}

    /**
     * Writes the three files into a folder that is not public yet.
     *
     * @throws IOException when the folder does not take them
     */
    public static void write(Path folder, Report report, Recipe recipe) throws IOException {
        String json = json(report);
        String html = ReportPage.render(report, recipe);
        Files.writeString(folder.resolve("recipe.yaml"), recipe.text());
        Files.writeString(folder.resolve("report.json"), json);
        Files.writeString(folder.resolve("report.html"), html);
    }

    /** The report as JSON: keys in snake case, in the order of the record. */
    public static String json(Report report) {
        try {
            return MAPPER.writeValueAsString(report) + "\n";
        } catch (JsonProcessingException impossible) {
            throw new IllegalStateException("a report could not be written as JSON", impossible);
        }
    }
}

package org.sentei.architecture;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.StringWriter;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.tools.JavaCompiler;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.engine.Sentei;

/** What the README shows to those who embed the jar is compiled as it stands, and run on a small model. */
class ReadmeTest {
    private static final Path RESOURCES = Path.of("src/test/resources").toAbsolutePath();
    private static final Pattern EXAMPLE = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL);

    @TempDir
    private Path folder;

    @Test
    void theExampleCompilesAndRuns() throws Exception {
        Matcher example = EXAMPLE.matcher(Files.readString(Path.of("README.md")));
        assertThat(example.find()).isTrue();
        String code = example.group(1);
        assertThat(example.find()).as("a second example, which nobody compiles").isFalse();
        compile("Shown", code);

        Path output = folder.resolve("out");
        Map<String, String> places = Map.of(
                "Path.of(\"llama\")", path(RESOURCES.resolve("models/austen-llama")),
                "Path.of(\"text.txt\")", path(RESOURCES.resolve("text/calibration.txt")),
                "Path.of(\"llama-50\")", path(output),
                "Recipes.load(\"stade-50\")",
                        "Recipes.parse(\"{steps: [{method: stade, sparsity: 0.5, targets: ['*q_proj']}],"
                                + " calibration: {samples: 4, length: 16}}\")");
        for (Map.Entry<String, String> place : places.entrySet()) {
            assertThat(code).contains(place.getKey());
            code = code.replace(place.getKey(), place.getValue());
        }
        compile("Run", code);
        try (URLClassLoader loader =
                new URLClassLoader(new URL[] {folder.toUri().toURL()}, ReadmeTest.class.getClassLoader())) {
            loader.loadClass("Run").getMethod("example").invoke(null);
        }
        assertThat(Sentei.inspect(output).sites())
                .filteredOn(site -> site.name().endsWith("q_proj"))
                .hasSize(4)
                .allSatisfy(site -> assertThat(site.zeros()).isGreaterThanOrEqualTo(site.parameters() / 2));
    }

    private static String path(Path path) {
        return "Path.of(\"" + path + "\")";
    }

    /** Imports first, then statements: those become the body of a method that declares no exception. */
    private void compile(String name, String code) throws Exception {
        int body = code.indexOf("\n\n");
        Path source = Files.writeString(
                folder.resolve(name + ".java"),
                code.substring(0, body) + "\npublic class " + name + " { public static void example() {"
                        + code.substring(body) + "}}\n");
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        StringWriter said = new StringWriter();
        try (StandardJavaFileManager files = compiler.getStandardFileManager(null, null, null)) {
            List<String> options = List.of(
                    "-Xlint:all,-processing",
                    "-proc:none",
                    "-Werror",
                    "-classpath",
                    Path.of("target/classes").toAbsolutePath().toString(),
                    "-d",
                    folder.toString());
            boolean compiled = compiler.getTask(said, files, null, options, null, files.getJavaFileObjects(source))
                    .call();
            assertThat(compiled).as(said.toString()).isTrue();
        }
    }
}

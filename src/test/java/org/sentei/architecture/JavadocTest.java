package org.sentei.architecture;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.source.util.JavacTask;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.lang.module.ModuleDescriptor;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;
import javax.tools.Diagnostic;
import javax.tools.DiagnosticCollector;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileObject;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;

/** The Javadoc of the exported packages, as javac's doclint sees it. */
class JavadocTest {
    private static final Path SOURCES = Path.of("src/main/java");
    private static final Path CLASSES = Path.of("target/classes");

    /** Comments that doclint misses where our style says all in one sentence, or where a name says it all. */
    private static final List<String> OPTIONAL =
            List.of("no @param", "no @return", "no @throws", "no main description", "use of default constructor");

    private static final String CONSTRUCTOR = "\\s*public \\w+ ?[({].*";
    private static final String ENUM_CONSTANT = "\\s*[A-Z][A-Z0-9_]*(\\(.*\\))?[,;]?";

    @Test
    void publicTypesAndMethodsSayWhatTheyAreAndLinksLeadSomewhere() throws IOException {
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        DiagnosticCollector<JavaFileObject> found = new DiagnosticCollector<>();
        try (StandardJavaFileManager files = compiler.getStandardFileManager(found, Locale.ROOT, null)) {
            String classPath = System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
            List<String> options =
                    List.of("-Xdoclint:all/protected", "-Xmaxwarns", "5000", "-proc:none", "-classpath", classPath);
            JavacTask task = (JavacTask)
                    compiler.getTask(null, files, found, options, null, files.getJavaFileObjectsFromPaths(exported()));
            task.analyze();
        }
        assertThat(found.getDiagnostics()).as("doclint at work").isNotEmpty();
        assertThat(found.getDiagnostics().stream()
                        .filter(JavadocTest::matters)
                        .map(one -> one.getSource().getName() + ":" + one.getLineNumber() + " "
                                + one.getMessage(Locale.ROOT)))
                .isEmpty();
    }

    private static List<Path> exported() throws IOException {
        ModuleDescriptor module;
        try (InputStream in = Files.newInputStream(CLASSES.resolve("module-info.class"))) {
            module = ModuleDescriptor.read(in);
        }
        return module.exports().stream()
                .map(export -> SOURCES.resolve(export.source().replace('.', '/')))
                .flatMap(JavadocTest::sources)
                .toList();
    }

    private static Stream<Path> sources(Path folder) {
        try (Stream<Path> files = Files.list(folder)) {
            return files.filter(file -> file.toString().endsWith(".java")).toList().stream();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static boolean matters(Diagnostic<? extends JavaFileObject> one) {
        String message = one.getMessage(Locale.ROOT);
        if (one.getSource() == null || OPTIONAL.stream().anyMatch(message::contains)) {
            return false;
        }
        if (!message.contains("no comment")) {
            return true;
        }
        String line = line(one);
        return !line.matches(CONSTRUCTOR) && !line.matches(ENUM_CONSTANT);
    }

    private static String line(Diagnostic<? extends JavaFileObject> one) {
        try {
            return one.getSource()
                    .getCharContent(true)
                    .toString()
                    .lines()
                    .skip(one.getLineNumber() - 1)
                    .findFirst()
                    .orElseThrow();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}

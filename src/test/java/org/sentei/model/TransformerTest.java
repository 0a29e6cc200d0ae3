package org.sentei.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.model.Fixtures.Changed;
import org.sentei.model.Site.Role;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

class TransformerTest {
    private static final TokenBatch BATCH = TokenBatch.of(new int[][] {{5, 9, 2, 7}, {1, 1, 3, 30}});

    private final Backend backend = AvailableBackends.open("reference");
    private final Arena arena = Arena.ofConfined();
    private Scope scope;

    @BeforeEach
    void open() {
        scope = new Scope(backend);
    }

    @AfterEach
    void close() {
        scope.close();
        arena.close();
        backend.close();
    }

    // What a model consists of

    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
            llama-gqa-tied | model.layers.1.self_attn.k_proj              | 16x48 | KEY              | attention_bias
            llama-gqa-tied | model.layers.1.mlp.down_proj                 | 48x80 | DOWN             | mlp_bias
            llama-variant  | model.layers.0.mlp.gate_proj                 | 20x16 | GATE             | mlp_bias
            llama-variant  | lm_head                                      | 31x16 | HEAD             |
            mistral-window | model.layers.0.self_attn.o_proj              | 32x64 | ATTENTION_OUTPUT |
            qwen2-bias     | model.layers.0.self_attn.v_proj              | 16x32 | VALUE            |
            qwen3-variant  | model.layers.0.self_attn.q_proj              | 24x16 | QUERY            | attention_bias
            opt            | model.decoder.layers.1.self_attn.out_proj    | 32x32 | ATTENTION_OUTPUT | enable_bias
            opt            | model.decoder.layers.1.fc1                   | 72x32 | UP               | enable_bias
            gpt2           | transformer.h.0.attn.c_attn                  | 96x32 | QUERY_KEY_VALUE  |
            gpt2           | transformer.h.1.mlp.c_proj                   | 32x128 | DOWN            |
            bert           | encoder.layer.0.attention.self.query         | 32x32 | QUERY            |
            bert-variant   | bert.encoder.layer.1.attention.output.dense  | 16x16 | ATTENTION_OUTPUT |
            """)
    void sitesAreNamedAsInTheFileAndHaveOutputsTimesInputs(
            String fixture, String name, String shape, Role role, String biasFlag) {
        try (Changed source = new Changed(fixture)) {
            Transformer model = source.model();
            Site site = model.sites().stream()
                    .filter(candidate -> candidate.name().equals(name))
                    .findFirst()
                    .orElseThrow();
            assertThat(site.rows() + "x" + site.cols()).isEqualTo(shape);
            assertThat(site.role()).isEqualTo(role);
            assertThat(site.weight()).isEqualTo(name + ".weight");
            assertThat(site.bias()).isEqualTo(source.contains(name + ".bias") ? name + ".bias" : null);
            assertThat(site.transposed()).isEqualTo(fixture.equals("gpt2"));
            assertThat(site.block())
                    .isEqualTo(role == Role.HEAD ? -1 : Integer.parseInt(name.replaceAll("\\D*\\.(\\d)\\..*", "$1")));
            assertThat(model.biasFlag(site).orElse(null)).isEqualTo(biasFlag);
        }
    }

    @ParameterizedTest
    @CsvSource({
        "llama-gqa-tied, 14",
        "llama3-rope-scaled, 15",
        "mistral-window, 15",
        "qwen2-bias, 15",
        "qwen3-qknorm, 15",
        "opt, 12",
        "gpt2, 8",
        "bert, 12"
    })
    void sitesAndParametersAreComplete(String fixture, int sites) {
        try (Changed source = new Changed(fixture)) {
            Transformer model = source.model();
            assertThat(model.sites()).hasSize(sites).doesNotHaveDuplicates();
            long elements = source.names().stream()
                    .filter(name -> !name.startsWith("pooler."))
                    .mapToLong(name -> source.tensor(name).shape().elements())
                    .sum();
            assertThat(model.parameters()).isEqualTo(elements);
        }
    }

    @Test
    void layersThatReadOneActivationShareItsKey() {
        try (Changed source = new Changed("llama-gqa-tied")) {
            List<Site> sites = source.model().sites();
            assertThat(sites.stream().map(Site::input).distinct()).hasSize(8);
            assertThat(sites.get(0).input())
                    .isEqualTo(sites.get(1).input())
                    .isEqualTo(sites.get(2).input())
                    .isNotEqualTo(sites.get(7).input());
            assertThat(sites.get(4).input()).isEqualTo(sites.get(5).input());
        }
    }

    static Stream<Arguments> otherNames() {
        return Stream.of(
                renamed("llama-gqa-tied", name -> name.replaceFirst("^model\\.", "")),
                renamed("gpt2", name -> name.replaceFirst("^transformer\\.", "")),
                renamed("opt", name -> name.replaceFirst("^model\\.", "")),
                renamed("bert", name -> "bert." + name));
    }

    private static Arguments renamed(String fixture, UnaryOperator<String> change) {
        return Arguments.of(fixture, change);
    }

    @ParameterizedTest
    @MethodSource("otherNames")
    void theNameOfTheBaseModelMayBeThereOrNot(String fixture, UnaryOperator<String> change) {
        try (Changed source = new Changed(fixture);
                Changed other = new Changed(fixture).rename(change)) {
            assertThat(forward(other.model(), BATCH)).containsExactly(forward(source.model(), BATCH));
        }
    }

    // The forward pass

    @ParameterizedTest
    @ValueSource(strings = {"llama-variant", "gpt2-variant", "bert-variant"})
    void observersSeeEverySiteInOrderWithTheInputsOfItsKey(String fixture) {
        try (Changed source = new Changed(fixture);
                HiddenStates states = new HiddenStates(source.model(), List.of(BATCH), scope)) {
            Transformer model = source.model();
            List<Site> seen = new ArrayList<>();
            Set<String> inputs = new HashSet<>();
            View[] last = new View[1];
            LinearObserver observer = (linear, input) -> {
                assertThat(input.rows()).isEqualTo(BATCH.tokens());
                assertThat(input.cols()).isEqualTo(linear.site().cols());
                if (!inputs.add(linear.site().input())) {
                    assertThat(input).isEqualTo(last[0]);
                }
                last[0] = input;
                seen.add(linear.site());
            };
            for (int block = 0; block < model.blocks(); block++) {
                states.advance(model.load(block, scope), observer);
            }
            states.finish(model.loadHead(scope), observer, (first, rows) -> {});
            assertThat(seen).isEqualTo(model.sites());
        }
    }

    @Test
    void weightsStoredInputsFirstAreTurned() {
        try (Changed source = new Changed("gpt2")) {
            LinearWeights linear = source.model().load(1, scope).linear(Role.UP);
            Tensor file = source.tensor("transformer.h.1.mlp.c_fc.weight");
            float[] weights = read(linear.weight());
            assertThat(weights[5 * 32 + 7]).isEqualTo((float) Floats.get(file.dtype(), file.data(), 7 * 128 + 5));
            assertThat(read(linear.bias())).hasSize(128);
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"llama-variant", "gpt2", "opt"})
    void aBlockWhoseOutputLayersAreZeroPassesItsInputOn(String fixture) {
        try (Changed source = new Changed(fixture)) {
            Transformer model = source.model();
            BlockWeights weights = model.load(0, scope);
            List<LinearWeights> zeros = Stream.of(Role.ATTENTION_OUTPUT, Role.DOWN)
                    .map(weights::linear)
                    .map(linear -> new LinearWeights(
                            linear.site(),
                            zeros(linear.site().rows(), linear.site().cols()),
                            null))
                    .toList();
            View before = model.embed(BATCH, scope);
            View hidden = model.embed(BATCH, scope);
            BatchGeometry geometry = model.geometry(BATCH, model.angles(BATCH.length(), scope), scope);
            model.runBlock(weights.with(zeros), hidden, geometry, scope, LinearObserver.NONE);
            assertThat(read(hidden)).containsExactly(read(before));
            model.runBlock(weights, hidden, geometry, scope, LinearObserver.NONE);
            assertThat(read(hidden)).isNotEqualTo(read(before));
        }
    }

    @Test
    void editsMustBelongToTheBlock() {
        try (Changed source = new Changed("llama-variant")) {
            Transformer model = source.model();
            LinearWeights stranger = model.load(1, scope).linear(Role.UP);
            BlockWeights weights = model.load(0, scope);
            assertThatThrownBy(() -> weights.with(List.of(stranger)))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining("model.layers.1.mlp.up_proj");
        }
    }

    @Test
    void observingLeavesTheStatesAsTheyAre() {
        try (Changed source = new Changed("qwen3-qknorm");
                HiddenStates states = new HiddenStates(source.model(), BATCH.split(4), scope)) {
            Transformer model = source.model();
            BlockWeights weights = model.load(0, scope);
            List<float[]> first = new ArrayList<>();
            List<float[]> second = new ArrayList<>();
            List<float[]> third = new ArrayList<>();
            states.observe(weights, (linear, input) -> first.add(read(input)));
            states.advance(weights, (linear, input) -> second.add(read(input)));
            states.observe(weights, (linear, input) -> third.add(read(input)));
            assertThat(second).usingRecursiveComparison().isEqualTo(first);
            assertThat(third.getFirst()).isNotEqualTo(first.getFirst());
        }
    }

    @Test
    void batchesDoNotChangeTheOutput() {
        try (Changed source = new Changed("mistral-window")) {
            Transformer model = source.model();
            List<Float> parts = new ArrayList<>();
            for (TokenBatch part : BATCH.split(1)) {
                for (float value : forward(model, part)) {
                    parts.add(value);
                }
            }
            assertThat(parts).isEqualTo(asList(forward(model, BATCH)));
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"bert", "opt", "gpt2", "llama-gqa-tied"})
    void whatStandsInThePaddingDoesNotMatter(String fixture) {
        int[][] mask = {{1, 1, 1, 0, 0}};
        try (Changed source = new Changed(fixture)) {
            Transformer model = source.model();
            float[] some = forward(model, TokenBatch.of(new int[][] {{4, 8, 15, 16, 23}}, mask));
            float[] other = forward(model, TokenBatch.of(new int[][] {{4, 8, 15, 42, 0}}, mask));
            int visible = some.length / 5 * 3;
            assertThat(Arrays.copyOf(other, visible)).containsExactly(Arrays.copyOf(some, visible));
        }
    }

    @Test
    void windowsOfLayerTypesAndOfDepthAgree() {
        try (Changed types = new Changed("qwen3-variant");
                Changed depth = new Changed("qwen3-variant").set("layer_types", null);
                Changed none = new Changed("qwen3-variant").set("use_sliding_window", false)) {
            assertThat(types.model().spec().blocks().stream().map(TransformerSpec.Block::window))
                    .containsExactly(0L, 3L);
            assertThat(depth.model().spec()).isEqualTo(types.model().spec());
            assertThat(none.model().spec().blocks().stream().map(TransformerSpec.Block::window))
                    .containsExactly(0L, 0L);
        }
    }

    // Refusals

    @Test
    void anUnknownArchitectureIsNamedBesideTheSupported() {
        try (Changed source = new Changed("gpt2").set("model_type", "mamba")) {
            assertRefused(source::model, "\"mamba\"", "bert", "gpt2", "llama", "mistral", "opt", "qwen2", "qwen3");
        }
    }

    @ParameterizedTest
    @CsvSource({
        "llama-gqa-tied, hidden_size, ",
        "llama-gqa-tied, hidden_size, -48",
        "llama-gqa-tied, num_hidden_layers, 0",
        "llama-gqa-tied, num_hidden_layers, 2000000000",
        "llama-gqa-tied, num_key_value_heads, 4",
        "llama-gqa-tied, vocab_size, -1",
        "llama-gqa-tied, head_dim, 7",
        "llama-gqa-tied, rms_norm_eps, -1",
        "mistral-window, sliding_window, -8",
        "qwen2-bias, intermediate_size, ",
        "opt, num_attention_heads, 5",
        "opt, ffn_dim, 0",
        "gpt2, n_head, 3",
        "gpt2, n_positions, ",
        "bert, max_position_embeddings, 0"
    })
    void numbersThatMakeNoSenseAreRefused(String fixture, String key, Integer value) {
        try (Changed source = new Changed(fixture).set(key, value)) {
            assertRefused(source::model, "config.json", "\"" + key + "\"");
        }
    }

    @ParameterizedTest
    @CsvSource({
        "llama-gqa-tied, hidden_act, tanh",
        "opt, activation_function, quick_gelu",
        "bert, position_embedding_type, relative_key"
    })
    void settingsTheForwardPassDoesNotKnowAreRefused(String fixture, String key, String value) {
        try (Changed source = new Changed(fixture).set(key, value)) {
            assertRefused(source::model, key, value);
        }
    }

    @ParameterizedTest
    @CsvSource({"gpt2, add_cross_attention, true", "bert, is_decoder, true", "opt, layer_norm_elementwise_affine, false"
    })
    void variantsTheForwardPassDoesNotKnowAreRefused(String fixture, String key, boolean value) {
        try (Changed source = new Changed(fixture).set(key, value)) {
            assertRefused(source::model, key, Boolean.toString(value));
        }
    }

    static Stream<Arguments> ropes() {
        return Stream.of(
                Arguments.of(Map.of("rope_type", "yarn", "factor", 4.0), "yarn"),
                Arguments.of(Map.of("type", "dynamic", "factor", 4.0), "dynamic"),
                Arguments.of(Map.of("rope_type", "linear"), "factor"),
                Arguments.of(Map.of("rope_type", "linear", "factor", 0), "factor"),
                Arguments.of(Map.of("rope_theta", -1.0), "rope_theta"),
                Arguments.of(Map.of("partial_rotary_factor", 0.5), "partial_rotary_factor"),
                Arguments.of(Map.of("full_attention", Map.of()), "layer type"),
                Arguments.of(
                        Map.of(
                                "rope_type",
                                "llama3",
                                "factor",
                                8,
                                "low_freq_factor",
                                4,
                                "high_freq_factor",
                                1,
                                "original_max_position_embeddings",
                                32),
                        "high_freq_factor"));
    }

    @ParameterizedTest
    @MethodSource("ropes")
    void rotarySettingsTheForwardPassDoesNotKnowAreRefused(Object rope, String named) {
        try (Changed source = new Changed("llama-gqa-tied").set("rope_parameters", rope)) {
            assertRefused(source::model, named);
        }
        try (Changed source =
                new Changed("llama-gqa-tied").set("rope_parameters", null).set("rope_scaling", rope)) {
            assertRefused(source::model, named);
        }
    }

    @Test
    void layerTypesMustFitTheLayers() {
        try (Changed few = new Changed("qwen3-variant").set("layer_types", List.of("full_attention"));
                Changed odd = new Changed("qwen3-variant").set("layer_types", List.of("full_attention", "linear"))) {
            assertRefused(few::model, "layer_types", "1 entries");
            assertRefused(odd::model, "layer_types", "linear");
        }
    }

    @Test
    void tensorsThatDoNotFitTheConfigurationAreRefused() {
        String weight = "model.layers.1.self_attn.k_proj.weight";
        try (Changed shape = new Changed("llama-gqa-tied").put(weight, DType.F32, new byte[4 * 48 * 8], 8, 48);
                Changed turned = new Changed("llama-gqa-tied").put(weight, DType.F32, new byte[4 * 48 * 16], 48, 16);
                Changed missing = new Changed("llama-gqa-tied").remove(weight);
                Changed integers = new Changed("llama-gqa-tied").put(weight, DType.I8, new byte[48 * 16], 16, 48);
                Changed headless = new Changed("llama3-rope-scaled").remove("lm_head.weight");
                Changed foreign = new Changed("llama-gqa-tied").rename(name -> "vision." + name)) {
            assertRefused(shape::model, weight, "8x48", "16x48");
            assertRefused(turned::model, weight, "48x16", "16x48");
            assertRefused(missing::model, weight);
            assertRefused(integers::model, weight, "I8");
            assertRefused(headless::model, "lm_head.weight");
            assertRefused(foreign::model, "embed_tokens.weight");
        }
    }

    @Test
    void biasesTheConfigurationDoesNotKnowAreRefused() {
        try (Changed flagged = new Changed("llama-gqa-tied")
                        .put("model.layers.0.mlp.up_proj.bias", DType.F32, new byte[80 * 4], 80);
                Changed never = new Changed("mistral-window")
                        .put("model.layers.0.mlp.up_proj.bias", DType.F32, new byte[56 * 4], 56)) {
            assertRefused(flagged::model, "model.layers.0.mlp.up_proj.bias", "set \"mlp_bias\" to true");
            assertRefused(never::model, "model.layers.0.mlp.up_proj.bias", "remove");
        }
    }

    @ParameterizedTest
    @CsvSource({
        "model.layers.1.self_attn.o_proj.weight, NaN",
        "model.layers.0.input_layernorm.weight, Infinity",
        "model.embed_tokens.weight, NaN"
    })
    void weightsThatAreNotFiniteAreRefusedByName(String name, float value) {
        try (Changed source = new Changed("llama-gqa-tied")) {
            Shape shape = source.tensor(name).shape();
            byte[] data = source.tensor(name).data().toArray(ValueLayout.JAVA_BYTE);
            MemorySegment.ofArray(data).set(ValueLayout.JAVA_FLOAT_UNALIGNED, 5L * Float.BYTES, value);
            source.put(name, DType.F32, data, shape.toArray());
            Transformer model = source.model();
            assertRefused(() -> forward(model, BATCH), name, Float.isNaN(value) ? "1 NaN" : "1 infinite");
        }
    }

    @Test
    void tokensTheModelCannotTakeAreRefused() {
        try (Changed source = new Changed("opt")) {
            Transformer model = source.model();
            assertRefused(() -> forward(model, TokenBatch.of(new int[][] {{1, 97}})), "token id 97", "position 1");
            assertRefused(() -> forward(model, TokenBatch.of(new int[][] {{-1}})), "token id -1");
            assertRefused(() -> forward(model, TokenBatch.of(new int[1][65])), "65 tokens", "64");
        }
    }

    @Test
    void batchesThatAreNotRectanglesAreRefused() {
        int[][] ids = {{1, 2}, {3, 4}};
        assertRefused(() -> TokenBatch.of(new int[0][]), "no tokens");
        assertRefused(() -> TokenBatch.of(new int[][] {{}}), "no tokens");
        assertRefused(() -> TokenBatch.of(new int[][] {{1, 2}, {3}}), "input_ids row 1", "equal length");
        assertRefused(() -> TokenBatch.of(ids, new int[][] {{1, 1}}), "attention_mask has 1 rows");
        assertRefused(() -> TokenBatch.of(ids, new int[][] {{1, 1}, {1}}), "attention_mask row 1");
        assertRefused(() -> TokenBatch.of(ids, new int[][] {{1, 1}, {1, 2}}), "attention_mask holds 2");
    }

    private static void assertRefused(ThrowingCallable attempt, String... parts) {
        assertThatThrownBy(attempt).isInstanceOf(ModelException.class).hasMessageContainingAll(parts);
    }

    private float[] forward(Transformer model, TokenBatch batch) {
        return Floats.toArray(model.forward(batch, backend, arena));
    }

    private View zeros(long rows, long cols) {
        View view = scope.matrix(rows, cols);
        backend.copyIn(arena.allocate(view.bytes(), Float.BYTES), view);
        return view;
    }

    private float[] read(View view) {
        MemorySegment host = arena.allocate(view.bytes(), Float.BYTES);
        backend.copyOut(view, host);
        return host.toArray(ValueLayout.JAVA_FLOAT);
    }

    private static List<Float> asList(float[] values) {
        List<Float> list = new ArrayList<>();
        for (float value : values) {
            list.add(value);
        }
        return list;
    }
}

package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.engine.Sentei.Metric;
import org.sentei.format.FormatException;
import org.sentei.format.HuggingFaceFolder;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Scope;
import org.sentei.model.TokenBatch;
import org.sentei.model.Transformer;
import org.sentei.tensor.Floats;

class EvaluationTest {
    @TempDir
    private Path folder;

    @Test
    void ranksCountTheAnswersThatAreAsCloseOrCloser() {
        List<float[]> queries = List.of(new float[] {1, 0}, new float[] {0, 1}, new float[] {0.6f, 0.8f});
        List<float[]> answers = List.of(new float[] {0.8f, 0.6f}, new float[] {0, 1}, new float[] {1, 0});
        // cosines: query 0: .8 0 1 -> own .8 is second; query 1: .6 1 0 -> first; query 2: .96 .8 .6 -> third
        assertThat(Evaluation.ranks(queries, answers, List.of("a", "b", "c"))).containsExactly(2, 1, 3);
    }

    @Test
    void aModelToWhichEverythingLooksAlikeEarnsNothing() {
        List<float[]> same = List.of(new float[] {1, 0}, new float[] {1, 0}, new float[] {1, 0});
        assertThat(Evaluation.ranks(same, same, List.of("a", "b", "c"))).containsExactly(3, 3, 3);
    }

    @Test
    void anAnswerThatOccursTwiceIsNoCompetitorOfItself() {
        List<float[]> same = List.of(new float[] {1, 0}, new float[] {1, 0}, new float[] {0, 1});
        assertThat(Evaluation.ranks(same, same, List.of("a", "a", "c"))).containsExactly(1, 1, 1);
    }

    @Test
    void spearmanSharesTheRanksOfEqualValues() {
        // ranks 1, 2.5, 2.5, 4 against 1, 3, 2, 4: means 2.5, products 2.25 + 0 + 0 + 2.25, squares 4.5 and 5
        double expected = 4.5 / Math.sqrt(4.5 * 5);
        assertThat(Evaluation.spearman(new double[] {.1, .5, .5, .9}, new double[] {0, 3, 1, 70}))
                .isCloseTo(expected, within(1e-15));
        assertThat(Evaluation.spearman(new double[] {1, 2, 3}, new double[] {9, 5, -2}))
                .isEqualTo(-1);
        assertThat(Evaluation.spearman(new double[] {1, 2}, new double[] {5, 5}))
                .isNaN();
    }

    @Test
    void unitVectorsHaveLengthOneAndZeroStaysZero() {
        assertThat(Embeddings.unit(new double[] {3, -4})).containsExactly(0.6f, -0.8f);
        assertThat(Embeddings.unit(new double[] {0, 0})).containsExactly(0, 0);
        assertThat(Embeddings.cosine(new float[] {0.6f, 0.8f}, new float[] {0.8f, 0.6f}))
                .isCloseTo(0.96, within(1e-7));
    }

    private List<Metric> evaluate(String model, Optional<Path> original, Path data) throws IOException {
        return Sentei.evaluate(
                new Sentei.EvaluationRequest(
                        Runs.model(model),
                        original,
                        data,
                        Optional.of(Runs.wordTokenizer(folder)),
                        Optional.empty(),
                        "reference",
                        Backend.Options.defaults()),
                Progress.NONE);
    }

    private Path data(String name, String content) throws IOException {
        return Files.writeString(folder.resolve(name), content);
    }

    @Test
    void anEncoderAgainstItselfHasCosineOne() throws IOException {
        Path text = data("a.txt", "w1 w2 w3\n\nw4\nw5 w6 w7\nw8 w9\n");
        List<Metric> metrics = evaluate("bert", Optional.of(Runs.model("bert")), text);
        assertThat(metrics).hasSize(1);
        assertThat(metrics.getFirst().metric()).isEqualTo("cosine");
        assertThat(metrics.getFirst().value()).isCloseTo(1, within(1e-6));
    }

    /** The vector of a text is the mean of its last hidden states, whatever other texts it is computed with. */
    @Test
    void vectorsAreMeansOverTheTextsOwnTokens() throws IOException {
        List<int[]> texts = List.of(new int[] {5, 6, 7}, new int[] {8}, new int[] {9, 3, 1}, new int[] {2, 2});
        try (OpenModel model = OpenModel.open(Runs.model("bert"), 1);
                HuggingFaceFolder file = HuggingFaceFolder.open(Runs.model("bert"));
                Backend backend = AvailableBackends.open("reference");
                Scope scope = new Scope(backend);
                Arena arena = Arena.ofConfined()) {
            List<float[]> vectors = new ArrayList<>();
            model.embed(texts, scope, vectors::add);
            Transformer transformer = Transformer.of(file.config(), file);
            assertThat(vectors).hasSize(texts.size());
            for (int text = 0; text < texts.size(); text++) {
                int[][] alone = {texts.get(text)};
                float[] hidden = Floats.toArray(transformer.forward(TokenBatch.of(alone), backend, arena));
                double[] sum = new double[vectors.get(text).length];
                for (int i = 0; i < hidden.length; i++) {
                    sum[i % sum.length] += hidden[i];
                }
                assertThat(vectors.get(text)).containsExactly(Embeddings.unit(sum), within(1e-6f));
            }
        }
    }

    @Test
    void retrievalFindsTextsThatAreTheSame() throws IOException {
        Path table = data("a.tsv", "query\tanswer\nw1 w2\tw1 w2\nw3\tw3\nw40 w5 w6\tw40 w5 w6\n");
        List<Metric> metrics = evaluate("bert", Optional.empty(), table);
        assertThat(metrics).extracting(Metric::metric).containsExactly("mrr", "top1");
        assertThat(metrics).allSatisfy(metric -> {
            assertThat(metric.value()).isEqualTo(1);
            assertThat(metric.original()).isNull();
        });
    }

    @Test
    void scoredPairsGiveARankCorrelation() throws IOException {
        Path table = data("a.tsv", "sentence1\tsentence2\tscore\nw1 w2\tw1 w2\t5\nw3\tw80 w81\t1\n");
        List<Metric> metrics = evaluate("bert", Optional.of(Runs.model("bert")), table);
        assertThat(metrics).extracting(Metric::metric).containsExactly("spearman", "cosine");
        assertThat(metrics.getFirst().value()).isEqualTo(1);
        assertThat(metrics.getFirst().original()).isEqualTo(1);
    }

    @Test
    void dataThatDoNotFitTheModelAreErrors() throws IOException {
        Path text = data("a.txt", "w1 w2 w3\n");
        Path blank = data("blank.txt", " \n\n");
        Path table = data("a.tsv", "query\tanswer\nw1\tw2\n");
        Path labels = data("b.tsv", "label\ttext\nw1\tw2\n");
        Path score = data("c.tsv", "sentence1\tsentence2\tscore\nw1\tw2\tgood\n");
        Path noScore = data("d.tsv", "sentence1\tsentence2\tscore\nw1\tw2\tNaN\n");
        assertThatThrownBy(() -> evaluate("bert", Optional.empty(), text))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("--against");
        assertThatThrownBy(() -> evaluate("bert", Optional.of(Runs.model("bert")), blank))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("holds no text");
        assertThatThrownBy(() -> evaluate("opt", Optional.empty(), table))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("is a table");
        assertThatThrownBy(() -> evaluate("bert", Optional.empty(), labels))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("[label, text]");
        assertThatThrownBy(() -> evaluate("bert", Optional.empty(), score))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("score good");
        assertThatThrownBy(() -> evaluate("bert", Optional.empty(), noScore))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("score NaN");
        assertThatThrownBy(() -> evaluate("bert", Optional.empty(), data("e.tsv", "query\tanswer\nw1\tw2\nw3\t\n")))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("text 2 of a column");
    }
}

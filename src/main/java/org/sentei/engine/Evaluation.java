package org.sentei.engine;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.stream.IntStream;
import org.sentei.engine.Sentei.Metric;
import org.sentei.format.FormatException;
import org.sentei.format.TextTokenizer;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Scope;

/**
 * How good a model is on data: perplexity of a decoder on text; of an encoder, retrieval on a table of queries and answers,
 * rank correlation on scored pairs, and how closely its vectors follow those of the original.
 */
final class Evaluation {
    static final String PERPLEXITY = "perplexity";
    static final String COSINE = "cosine";

    private final TextData data;
    private final Optional<Integer> length;
    private final Backend backend;
    private final Progress progress;

    /**
     * Prepares measurements.
     *
     * @param length tokens of a perplexity window; the smaller of 512 and the model's maximum when empty
     */
    Evaluation(TextData data, Optional<Integer> length, Backend backend, Progress progress) {
        this.data = data;
        this.length = length;
        this.backend = backend;
        this.progress = progress;
    }

    /** What can be told of one model, and its vectors for comparing them with another's; none for a decoder. */
    record Measured(List<Metric> metrics, List<float[]> vectors) {
        /** Whether {@link #compare} with another will give this figure. */
        boolean gives(String metric) {
            return metric.equals(COSINE)
                    ? !vectors.isEmpty()
                    : metrics.stream().anyMatch(own -> own.metric().equals(metric));
        }
    }

    /**
     * The figures of a model by itself.
     *
     * @throws FormatException when the data give none without another model to hold it against
     */
    List<Metric> alone(OpenModel model, TextTokenizer tokenizer) {
        if (model.isEncoder() && data.table().isEmpty()) {
            throw new FormatException("data " + data.source()
                    + " is plain text, on which an encoder can only be held against another:"
                    + " name the original with --against, or give a .tsv of queries and answers");
        }
        return measure(model, tokenizer).metrics();
    }

    /** The figures of a model and of the original that it is held against, measured on the same data. */
    List<Metric> compare(Measured own, Measured other) {
        List<Metric> both = new ArrayList<>();
        for (int i = 0; i < own.metrics().size(); i++) {
            both.add(new Metric(
                    own.metrics().get(i).metric(),
                    own.metrics().get(i).value(),
                    other.metrics().get(i).value()));
        }
        if (!own.vectors().isEmpty()) {
            double mean = IntStream.range(0, own.vectors().size())
                    .mapToDouble(i -> Embeddings.cosine(
                            own.vectors().get(i), other.vectors().get(i)))
                    .average()
                    .orElseThrow();
            both.add(new Metric(COSINE, finite(COSINE, mean), 1.0));
        }
        return both;
    }

    /**
     * Measures one model.
     *
     * @throws FormatException when the data do not fit the model
     */
    Measured measure(OpenModel model, TextTokenizer tokenizer) {
        if (!model.isEncoder()) {
            return new Measured(List.of(perplexity(model, tokenizer)), List.of());
        }
        if (data.table().isEmpty()) {
            List<String> lines =
                    data.text().lines().filter(line -> !line.isBlank()).toList();
            if (lines.isEmpty()) {
                throw new FormatException("data " + data.source() + " holds no text; give at least one line");
            }
            return new Measured(List.of(), embed(model, tokenizer, lines));
        }
        List<String> headings = data.table().getFirst();
        if (headings.containsAll(List.of("query", "answer"))) {
            return retrieval(model, tokenizer);
        }
        if (headings.containsAll(List.of("sentence1", "sentence2", "score"))) {
            return similarity(model, tokenizer);
        }
        throw new FormatException("data " + data.source() + " has the headings " + headings
                + "; an encoder is measured on query and answer, or on sentence1, sentence2 and score");
    }

    private Metric perplexity(OpenModel model, TextTokenizer tokenizer) {
        if (!(model instanceof TransformerModel transformer) || !data.table().isEmpty()) {
            throw new FormatException("data " + data.source() + " is a table; a decoder is measured on plain text");
        }
        int window = length.orElse(Math.min(512, model.maximumLength()));
        double value = Perplexity.of(
                transformer.transformer(), tokenizer.encode(data.text(), false), window, backend, progress);
        return new Metric(PERPLEXITY, finite(PERPLEXITY, value), null);
    }

    private Measured retrieval(OpenModel model, TextTokenizer tokenizer) {
        List<float[]> queries = embed(model, tokenizer, data.column("query"));
        List<float[]> answers = embed(model, tokenizer, data.column("answer"));
        int[] ranks = ranks(queries, answers, data.column("answer"));
        double reciprocal =
                Arrays.stream(ranks).mapToDouble(rank -> 1.0 / rank).average().orElseThrow();
        double first = (double) Arrays.stream(ranks).filter(rank -> rank == 1).count() / ranks.length;
        List<float[]> vectors = new ArrayList<>(queries);
        vectors.addAll(answers);
        return new Measured(List.of(new Metric("mrr", reciprocal, null), new Metric("top1", first, null)), vectors);
    }

    /**
     * The place of every query's own answer among all answers, from 1, by cosine. Another answer that is as close stands
     * before it, so that a model to which everything looks alike earns nothing; one of the same text does not count.
     */
    static int[] ranks(List<float[]> queries, List<float[]> answers, List<String> texts) {
        int[] ranks = new int[queries.size()];
        for (int i = 0; i < ranks.length; i++) {
            double right = Embeddings.cosine(queries.get(i), answers.get(i));
            ranks[i] = 1;
            for (int j = 0; j < ranks.length; j++) {
                boolean behind = Embeddings.cosine(queries.get(i), answers.get(j)) < right;
                ranks[i] += behind || texts.get(j).equals(texts.get(i)) ? 0 : 1;
            }
        }
        return ranks;
    }

    private Measured similarity(OpenModel model, TextTokenizer tokenizer) {
        List<float[]> left = embed(model, tokenizer, data.column("sentence1"));
        List<float[]> right = embed(model, tokenizer, data.column("sentence2"));
        double[] cosines = IntStream.range(0, left.size())
                .mapToDouble(i -> Embeddings.cosine(left.get(i), right.get(i)))
                .toArray();
        double[] scores = data.column("score").stream().mapToDouble(this::score).toArray();
        List<float[]> vectors = new ArrayList<>(left);
        vectors.addAll(right);
        double spearman = spearman(cosines, scores);
        return new Measured(List.of(new Metric("spearman", finite("spearman", spearman), null)), vectors);
    }

    private double score(String text) {
        double score;
        try {
            score = Double.parseDouble(text);
        } catch (NumberFormatException e) {
            throw new FormatException("data " + data.source() + " has the score " + text + ", which is no number", e);
        }
        if (!Double.isFinite(score)) {
            throw new FormatException("data " + data.source() + " has the score " + text + "; give finite numbers");
        }
        return score;
    }

    /** Correlation of the ranks; NaN when one side is all alike. */
    static double spearman(double[] a, double[] b) {
        return correlation(ranks(a), ranks(b));
    }

    /** Ranks from 1; equal values share the mean of their ranks. */
    private static double[] ranks(double[] values) {
        int[] order = IntStream.range(0, values.length)
                .boxed()
                .sorted(Comparator.comparingDouble(i -> values[i]))
                .mapToInt(Integer::intValue)
                .toArray();
        double[] ranks = new double[values.length];
        for (int start = 0; start < order.length; ) {
            int end = start;
            while (end < order.length && values[order[end]] == values[order[start]]) {
                end++;
            }
            for (int i = start; i < end; i++) {
                ranks[order[i]] = (start + 1 + end) / 2.0;
            }
            start = end;
        }
        return ranks;
    }

    private static double correlation(double[] a, double[] b) {
        double meanA = Arrays.stream(a).average().orElseThrow();
        double meanB = Arrays.stream(b).average().orElseThrow();
        double product = 0;
        double squaresA = 0;
        double squaresB = 0;
        for (int i = 0; i < a.length; i++) {
            product += (a[i] - meanA) * (b[i] - meanB);
            squaresA += (a[i] - meanA) * (a[i] - meanA);
            squaresB += (b[i] - meanB) * (b[i] - meanB);
        }
        return product / Math.sqrt(squaresA * squaresB);
    }

    private List<float[]> embed(OpenModel model, TextTokenizer tokenizer, List<String> texts) {
        List<int[]> tokens = tokenizer.encode(texts, true).stream()
                .map(ids -> Arrays.copyOf(ids, Math.min(ids.length, model.maximumLength())))
                .toList();
        for (int i = 0; i < tokens.size(); i++) {
            if (tokens.get(i).length == 0) {
                throw new FormatException("data " + data.source() + ": text " + (i + 1)
                        + " of a column or file gives no tokens; leave empty texts out");
            }
        }
        List<float[]> vectors = new ArrayList<>();
        try (Scope scope = new Scope(backend)) {
            model.embed(tokens, scope, vector -> {
                for (float value : vector) {
                    finite("vector of text " + (vectors.size() + 1), value);
                }
                vectors.add(vector);
                progress.checkpoint("embedding texts", vectors.size(), tokens.size());
            });
        }
        return vectors;
    }

    private double finite(String name, double value) {
        if (!Double.isFinite(value)) {
            throw new RunException("the " + name + " on " + data.source() + " is " + value
                    + "; the model's outputs are not finite, or the data are all alike");
        }
        return value;
    }
}

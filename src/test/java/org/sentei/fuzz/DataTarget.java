package org.sentei.fuzz;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;
import org.sentei.engine.Progress;
import org.sentei.engine.Sentei;
import org.sentei.format.Models;

/** Data to evaluate on, a table or lines of JSON or plain text, and the model that is measured on it. */
final class DataTarget implements FuzzTarget {
    private static final List<String> TABLES = List.of("""
            query\tanswer
            w1 w2 w3\tw4 w5
            w7\tw8 w9 w10
            w11 w12\tw13
            """, """
            sentence1\tsentence2\tscore
            w1 w2 w3\tw4 w5\t0.5
            w7\tw8 w9 w10\t4
            w11 w12\tw13\t-1.5
            """);
    private static final String LINES = """
            {"text": "w1 w2 w3 w4 w5 w6 w7 w8"}
            {"text": "w9 w10 w11", "id": 3}

            {"id": 4, "text": "w1 w1 w1 w1 w1 w2"}
            """;
    private static final String PLAIN = "w1 w2 w3 w4 w5\nw6 w7 w8 w9\n\nw10 w11 w12 w13\n";
    private static final List<String> DICTIONARY = List.of(
            "\t",
            "\t\t",
            "\n",
            "\r",
            "\r\n",
            "\u0085",
            "\u2028",
            "\u0000",
            "\ufeff",
            "query",
            "answer",
            "score",
            "sentence1",
            "1e999",
            "NaN",
            "-Infinity",
            "0x1p3",
            "1d",
            " ",
            "{}",
            "{\"text\": 1}",
            "{\"text\": \"\"}",
            "{\"text\": \"\\ud800\"}",
            "{\"text\": [\"w1\"]}",
            "{\"text\": \"w1\", \"text\": \"w2\"}",
            "{\"text\": " + "[".repeat(3000),
            "[".repeat(20000),
            "{\"a\":".repeat(900),
            "9".repeat(1200),
            "null",
            "w1 ".repeat(700),
            "\ud83d\ude00",
            "a".repeat(100_000));

    @Override
    public Case make(SplittableRandom random, Path folder) throws IOException {
        Path encoder = folder.resolve("bert-variant");
        Path decoder = folder.resolve("gpt2-variant");
        if (!Files.exists(encoder)) {
            ModelUse.prepare(Files.createDirectories(folder));
            for (Path model : List.of(encoder, decoder)) {
                Files.createDirectories(model);
                for (String file : List.of("config.json", "model.safetensors")) {
                    Files.copy(Models.folder(model.getFileName().toString()).resolve(file), model.resolve(file));
                }
            }
        }
        int kind = random.nextInt(5);
        String seed = kind < 2 ? TABLES.get(kind) : kind < 4 ? LINES : PLAIN;
        Path input = folder.resolve(kind < 2 ? "data.tsv" : kind < 4 ? "data.jsonl" : "data.txt");
        byte[] damaged = TextMutator.mutate(seed, random, DICTIONARY).getBytes(StandardCharsets.UTF_8);
        if (random.nextInt(4) == 0) {
            damaged = ByteMutator.mutate(damaged, random);
        }
        Files.write(input, damaged);
        Path model = random.nextInt(8) == 0 || kind > 2 ? decoder : encoder;
        return new Case(
                input,
                List.of(input.toString(), "the text", "token id"),
                () -> Sentei.evaluate(
                        new Sentei.EvaluationRequest(
                                model,
                                model.equals(encoder) && kind == 2 ? Optional.of(encoder) : Optional.empty(),
                                input,
                                Optional.of(folder.resolve("words.json")),
                                Optional.of(4),
                                random.nextBoolean() ? "reference" : "cpu",
                                ModelUse.ONE_THREAD),
                        Progress.NONE));
    }
}

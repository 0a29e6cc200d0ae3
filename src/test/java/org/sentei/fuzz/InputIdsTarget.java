package org.sentei.fuzz;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.SplittableRandom;
import org.sentei.cli.InputIds;

/** The JSON that {@code sentei forward} reads. */
final class InputIdsTarget implements FuzzTarget {
    private final JsonMutator.Node seed =
            JsonMutator.parse("{\"input_ids\": [[1, 2, 3], [4, 5, 0]], \"attention_mask\": [[1, 1, 1], [1, 1, 0]]}");

    @Override
    public Case make(SplittableRandom random, Path folder) throws IOException {
        Path input = Files.createDirectories(folder).resolve("ids.json");
        byte[] damaged = JsonMutator.mutate(
                        seed, random, List.of("\"input_ids\"", "\"attention_mask\"", "[[1]]", "[1]"))
                .getBytes(StandardCharsets.UTF_8);
        Files.write(input, random.nextInt(4) == 0 ? ByteMutator.mutate(damaged, random) : damaged);
        return new Case(
                input,
                List.of(input.toString(), "input_ids", "attention_mask", "the input "),
                () -> InputIds.read(input));
    }
}

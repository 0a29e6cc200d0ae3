package org.sentei.fuzz;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.SplittableRandom;
import org.sentei.format.SbuFolder;
import org.sentei.format.SkeletonTable;
import org.sentei.model.SkeletonSequences;

/** Sequences of skeletons, as a table or in the layout of SBU Interaction, and what a network sees of them. */
final class SkeletonsTarget implements FuzzTarget {
    private static final List<String> SETS = List.of("s01s02", "s02s01", "s04s02");
    private static final List<String> DICTIONARY = List.of(
            ",",
            ",,",
            "\n",
            "\r\n",
            "\u0000",
            "-1",
            "67108863",
            "67108864",
            "65535",
            "65536",
            "4294967296",
            "1e39",
            "-1e38",
            "1e-46",
            "NaN",
            "Infinity",
            "0x1p3",
            "1d",
            "train",
            "other",
            ",split",
            "9".repeat(5000),
            "0,0,0,0,0,0,0",
            "5,0,0,1,2,3,1,test");

    @Override
    public Case make(SplittableRandom random, Path folder) throws IOException {
        boolean table = random.nextInt(3) > 0;
        Path input = Files.createDirectories(folder).resolve(table ? "skeletons.csv" : "sbu");
        if (table) {
            write(input, table(random.nextBoolean()), random);
        } else {
            for (String set : SETS) {
                Path file = Files.createDirectories(input.resolve(set).resolve("01/001"))
                        .resolve("skeleton_pos.txt");
                write(file, frames(), set.equals(SETS.getFirst()) ? random : null);
            }
        }
        return new Case(input, List.of(input.toString(), "skeleton sequences"), () -> {
            SkeletonSequences sequences = table ? SkeletonTable.read(input) : SbuFolder.read(input);
            for (int chunks : new int[] {1, 3}) {
                for (float signal : sequences.signals(chunks)) {
                    if (!Float.isFinite(signal)) {
                        throw new IllegalStateException("a signal is " + signal);
                    }
                }
            }
        });
    }

    private static void write(Path file, String text, SplittableRandom damage) throws IOException {
        String written = damage == null ? text : TextMutator.mutate(text, damage, DICTIONARY);
        byte[] bytes = written.getBytes(StandardCharsets.UTF_8);
        Files.write(file, damage != null && damage.nextInt(4) == 0 ? ByteMutator.mutate(bytes, damage) : bytes);
    }

    private static String table(boolean splits) {
        StringBuilder text = new StringBuilder("sequence,frame,joint,x,y,z,label" + (splits ? ",split" : "") + "\n");
        for (int sequence = 0; sequence < 10; sequence++) {
            for (int line = 0; line < 4; line++) {
                text.append(sequence + "," + line / 2 + "," + line % 2 + ",0.5,-" + line + "," + sequence + ","
                        + sequence % 2);
                text.append(splits ? sequence < 6 ? ",train\n" : ",test\n" : "\n");
            }
        }
        return text.toString();
    }

    private static String frames() {
        return ("1" + ",0.25".repeat(90) + "\n") + "2" + ",0.5".repeat(89) + ",1\n";
    }
}

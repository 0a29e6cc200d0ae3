package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.sentei.model.LabelledExamples.Split;
import org.sentei.model.SkeletonSequences;

/** Sequences of skeletons from a table, from the SBU layout and from the generator, and what a network sees of them. */
class SkeletonsTest {
    private static final String HEADER = "sequence,frame,joint,x,y,z,label";

    @TempDir
    private Path folder;

    /** Sequences as a table with a column of splits. */
    private Path table(SkeletonSequences sequences) throws IOException {
        List<String> lines = new ArrayList<>(List.of(HEADER + ",split"));
        for (Split split : Split.values()) {
            for (int sequence : sequences.members(split)) {
                float[] places = sequences.places(sequence);
                for (int i = 0; i < places.length / 3; i++) {
                    lines.add(sequence + "," + i / sequences.joints() + "," + i % sequences.joints() + ","
                            + places[3 * i] + "," + places[3 * i + 1] + "," + places[3 * i + 2] + ","
                            + sequences.label(sequence) + ","
                            + split.name().toLowerCase(Locale.ROOT));
                }
            }
        }
        return Files.write(folder.resolve("skeletons.csv"), lines);
    }

    @Test
    void aTableGivesBackWhatWasWritten() throws IOException {
        SkeletonSequences drawn = SyntheticSkeletons.draw(3);
        SkeletonSequences read = SkeletonTable.read(table(drawn));
        assertThat(read.count()).isEqualTo(drawn.count());
        assertThat(read.joints()).isEqualTo(15);
        assertThat(read.classes()).isEqualTo(8);
        for (Split split : Split.values()) {
            assertThat(read.members(split)).isEqualTo(drawn.members(split));
        }
        assertThat(read.label(9)).isEqualTo(drawn.label(9));
        assertThat(read.signals(8)).isEqualTo(drawn.signals(8));
    }

    @Test
    void aSeedDecidesWhatIsDrawn() {
        float[] once = SyntheticSkeletons.draw(5).signals(4);
        assertThat(SyntheticSkeletons.draw(5).signals(4)).isEqualTo(once);
        assertThat(SyntheticSkeletons.draw(6).signals(4)).isNotEqualTo(once);
    }

    @Test
    void aJointsSignalIsItsMeanPlaceInEachChunkOfTheStandardizedSequence() {
        // One joint that climbs by 1 a frame, another that stays; five frames in two chunks, of two and three.
        float[] places = new float[5 * 2 * 3];
        for (int frame = 0; frame < 5; frame++) {
            places[frame * 6] = 10 + frame;
            places[frame * 6 + 4] = 7;
        }
        SkeletonSequences sequences =
                new SkeletonSequences(2, new int[] {0, 5}, places, new int[] {0}, new Split[] {Split.TRAIN});
        float[] signals = sequences.signals(2);
        // x of the first joint is 10.5 and 13, of the second 0; y is 0 and 7: centred, the variance over all axes is 1
        double[] x = {10.5, 13, 0, 0};
        double mean = 23.5 / 4;
        double square = IntStream.range(0, 4)
                .mapToDouble(i -> (x[i] - mean) * (x[i] - mean))
                .sum();
        double scale = Math.sqrt((square + 4 * 3.5 * 3.5) / 12);
        double[] expected = {
            (10.5 - mean) / scale, -3.5 / scale, 0, (13 - mean) / scale, -3.5 / scale, 0,
            -mean / scale, 3.5 / scale, 0, -mean / scale, 3.5 / scale, 0
        };
        for (int i = 0; i < expected.length; i++) {
            assertThat((double) signals[i]).isCloseTo(expected[i], within(1e-6));
        }
    }

    @Test
    void moreChunksThanFramesRepeatFrames() {
        float[] places = {0, 0, 0, 2, 0, 0};
        SkeletonSequences sequences =
                new SkeletonSequences(1, new int[] {0, 2}, places, new int[] {0}, new Split[] {Split.TRAIN});
        float[] signals = sequences.signals(4);
        float far = (float) Math.sqrt(3);
        assertThat(signals).containsExactly(-far, 0, 0, -far, 0, 0, far, 0, 0, far, 0, 0);
    }

    @Test
    void aSequenceWithoutMovementOrSizeIsAllZero() {
        SkeletonSequences sequences = new SkeletonSequences(
                1, new int[] {0, 1}, new float[] {3, 3, 3}, new int[] {0}, new Split[] {Split.TRAIN});
        assertThat(sequences.signals(2)).containsOnly(0);
    }

    @Test
    void withoutAColumnOfSplitsEveryFiveSequencesOfALabelAreDealt() throws IOException {
        List<String> lines = new ArrayList<>(List.of(HEADER));
        for (int i = 0; i < 20; i++) {
            lines.add(i + ",0,0,1,2,3," + i % 2);
        }
        SkeletonSequences read = SkeletonTable.read(Files.write(folder.resolve("dealt.csv"), lines));
        assertThat(read.members(Split.TRAIN)).containsExactly(0, 1, 2, 3, 6, 7, 10, 11, 12, 13, 16, 17);
        assertThat(read.members(Split.VALID)).containsExactly(4, 5, 14, 15);
        assertThat(read.members(Split.TEST)).containsExactly(8, 9, 18, 19);
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "sequence;frame|its first line must be sequence,frame,joint,x,y,z,label or",
                HEADER + "|has no sequences",
                HEADER + "\\n0,0,0,1,2,3|line 2: it has 6 fields, not 7",
                HEADER + "\\n0,0,0,1,nan,3,0|line 2: \"nan\" is no coordinate",
                HEADER + "\\n0,0,0,1,1e39,3,0|line 2: \"1e39\" is no coordinate",
                HEADER + "\\n0,0,1,1,2,3,0|line 2: joint 1 stands where 0 should",
                HEADER + "\\n0,0,0,1,2,3,0\\n0,0,2,1,2,3,0|line 3: joint 2 stands where 1 should",
                HEADER + "\\n0,1,0,1,2,3,0\\n0,0,0,1,2,3,0|line 3: it stands behind sequence 0, frame 1",
                HEADER + "\\n1,0,0,1,2,3,0\\n0,1,0,1,2,3,0|line 3: it stands behind sequence 1, frame 0",
                HEADER + "\\n0,0,0,1,2,3,0\\n0,0,1,1,2,3,0\\n0,1,0,1,2,3,0\\n0,2,0,1,2,3,0|line 5: a frame that ends"
                        + " here has 1 joints, the first frame 2",
                HEADER + "\\n0,0,0,1,2,3,0\\n0,0,1,1,2,3,0\\n0,1,0,1,2,3,0|at its end: a frame that ends here has 1",
                HEADER + "\\n0,0,0,1,2,3,0\\n0,1,0,1,2,3,1|line 3: label or split is not that of",
                HEADER + "\\n0,0,0,1,2,3,-1|\"-1\" is no number from 0 to 65535",
                HEADER + "\\n0,0,0,1,2,3,0|has no sequence of the split test",
                HEADER + ",split\\n0,0,0,1,2,3,0,tset|\"tset\" is no split"
            })
    void aWrongTableIsNamedWithItsLine(String content, String message) throws IOException {
        Path file = Files.writeString(folder.resolve("wrong.csv"), content.replace("\\n", "\n"));
        assertThatThrownBy(() -> SkeletonTable.read(file))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("wrong.csv")
                .hasMessageContaining(message);
    }

    private void sbu(String sequence, int frames, int fields) throws IOException {
        List<String> lines = new ArrayList<>();
        for (int frame = 1; frame <= frames; frame++) {
            StringBuilder line = new StringBuilder().append(frame);
            for (int i = 1; i < fields; i++) {
                line.append(",").append(0.01 * i * frame);
            }
            lines.add(line.toString());
        }
        Path directory = Files.createDirectories(folder.resolve("sbu").resolve(sequence));
        Files.write(directory.resolve("skeleton_pos.txt"), lines);
    }

    @Test
    void foldersOfPairsOfActorsAreReadWithTheirFolds() throws IOException {
        sbu("s01s02/01/001", 3, 91);
        sbu("s01s02/08/001", 2, 91);
        sbu("s02s01/03/002", 2, 91);
        sbu("s06s03/02/001", 4, 91);
        Files.writeString(folder.resolve("sbu/README.txt"), "passed over");
        SkeletonSequences read = SbuFolder.read(folder.resolve("sbu"));
        assertThat(SbuFolder.isOne(folder.resolve("sbu"))).isTrue();
        assertThat(SbuFolder.isOne(folder)).isFalse();
        assertThat(read.joints()).isEqualTo(30);
        assertThat(IntStream.range(0, 4).map(read::label)).containsExactly(0, 7, 2, 1);
        assertThat(IntStream.range(0, 4).map(read::frames)).containsExactly(3, 2, 2, 4);
        assertThat(read.members(Split.TRAIN)).containsExactly(0, 1);
        assertThat(read.members(Split.VALID)).containsExactly(2);
        assertThat(read.members(Split.TEST)).containsExactly(3);
        assertThat(read.places(1)[3]).isEqualTo(0.04f);
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "s01s02/01/001|2|90|line 1: it has 90 fields, not 91",
                "s01s02/01/001|0|91|has no frames",
                "s01s02/09/001|2|91|is no action of these data",
                "s09s01/01/001|2|91|is no pair of actors of these data",
                "s01s02/01/001|2|91|has no sequence of the split test"
            })
    void aWrongFolderOfPairsIsRefused(String sequence, int frames, int fields, String message) throws IOException {
        sbu(sequence, frames, fields);
        assertThatThrownBy(() -> SbuFolder.read(folder.resolve("sbu")))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining(message);
    }

    @Test
    void aSequenceWithoutItsFileIsRefused() throws IOException {
        Files.createDirectories(folder.resolve("sbu/s01s02/01/001"));
        assertThatThrownBy(() -> SbuFolder.read(folder.resolve("sbu")))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("cannot be read");
    }
}

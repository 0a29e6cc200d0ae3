package org.sentei.format;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.sentei.model.LabelledExamples.Split;
import org.sentei.model.SkeletonSequences;

/**
 * Reads the folders of the SBU Kinect Interaction data, version 2.0 (Yun et al., CVPR workshops 2012), which its owners hand out:
 * {@code SET/ACTION/SEQUENCE/skeleton_pos.txt}, SET two actors such as {@code s01s02}, ACTION 01 to 08, a line a frame, its number
 * and the places of 15 joints of two people. Of the owners' five folds of sets the last tests, the fourth validates, the others
 * train. Other files and folders are passed over.
 */
public final class SbuFolder {
    private static final int JOINTS = 30;
    private static final int ACTIONS = 8;
    private static final String FILE = "skeleton_pos.txt";
    private static final Pattern SET = Pattern.compile("s\\d\\ds\\d\\d");
    private static final Pattern NUMBER = Pattern.compile("\\d{2,4}");

    private static final Map<Split, List<String>> SPLITS = Map.of(
            Split.TRAIN,
            List.of(
                    "s01s02", "s03s04", "s05s02", "s06s04", "s02s03", "s02s07", "s03s05", "s05s03", "s01s03", "s01s07",
                    "s07s01", "s07s03"),
            Split.VALID,
            List.of("s02s01", "s02s06", "s03s02", "s03s06"),
            Split.TEST,
            List.of("s04s02", "s04s03", "s04s06", "s06s02", "s06s03"));

    private SbuFolder() {}

    /** Whether a folder holds folders of pairs of actors. */
    public static boolean isOne(Path folder) {
        return Files.isDirectory(folder) && !folders(folder, SET).isEmpty();
    }

    /**
     * Reads all sequences of a folder.
     *
     * @throws FormatException when a set or an action is not one of the data's, a line is wrong, or nothing trains or tests
     */
    public static SkeletonSequences read(Path folder) {
        SkeletonBuilder sequences = new SkeletonBuilder();
        for (Path set : folders(folder, SET)) {
            Split split = split(set);
            for (Path action : folders(set, NUMBER)) {
                int label = Integer.parseInt(action.getFileName().toString()) - 1;
                if (label < 0 || label >= ACTIONS) {
                    throw new FormatException(action + " is no action of these data, which go from 01 to 08");
                }
                for (Path sequence : folders(action, NUMBER)) {
                    sequences.begin(label, split);
                    read(sequence.resolve(FILE), sequences);
                }
            }
        }
        return sequences.build(folder);
    }

    private static Split split(Path set) {
        String name = set.getFileName().toString();
        return SPLITS.entrySet().stream()
                .filter(entry -> entry.getValue().contains(name))
                .map(Map.Entry::getKey)
                .findFirst()
                .orElseThrow(() -> new FormatException(set + " is no pair of actors of these data: remove the folder"));
    }

    private static void read(Path file, SkeletonBuilder sequences) {
        int[] frames = {0};
        CsvTable.read(file, 1 + JOINTS * SkeletonSequences.DIMENSIONS, row -> {
            frames[0]++;
            for (int i = 1; i < row.columns(); i += SkeletonSequences.DIMENSIONS) {
                sequences.add(row.coordinate(i), row.coordinate(i + 1), row.coordinate(i + 2));
            }
            sequences.endFrame(row::wrong);
        });
        if (frames[0] == 0) {
            throw new FormatException(file + " has no frames: give a line a frame");
        }
    }

    /** Folders with such a name, sorted. */
    private static List<Path> folders(Path parent, Pattern name) {
        try (Stream<Path> content = Files.list(parent)) {
            return content.filter(Files::isDirectory)
                    .filter(path -> name.matcher(path.getFileName().toString()).matches())
                    .sorted()
                    .toList();
        } catch (IOException e) {
            throw new FormatException(
                    parent + " cannot be read (" + e.getMessage() + "): give a folder of the data", e);
        }
    }
}

package org.sentei.format;

import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.sentei.format.CsvTable.Row;
import org.sentei.model.LabelledExamples.Split;
import org.sentei.model.SkeletonSequences;

/**
 * Reads sequences of skeletons from one CSV file, a line a joint: {@code sequence,frame,joint,x,y,z,label}, and {@code split}
 * behind if the file says who trains. Lines are sorted by sequence, frame and joint; joints are numbered from 0, as many in every
 * frame; label and split are the same all over a sequence. Without a column of splits, of every five sequences of a label three
 * train, one validates, one tests.
 */
public final class SkeletonTable {
    private static final String HEADER = "sequence,frame,joint,x,y,z,label";
    private static final int MOST_LABELS = 1 << 16;
    private static final int LABEL = 6;
    private static final int SPLIT = 7;
    private static final List<Split> FIVE = List.of(Split.TRAIN, Split.TRAIN, Split.VALID, Split.TRAIN, Split.TEST);

    private final SkeletonBuilder sequences = new SkeletonBuilder();
    private final Map<Integer, Integer> dealt = new HashMap<>();
    private int sequence = -1;
    private int frame;
    private int joint;
    private int label;
    private Split split;

    private SkeletonTable() {}

    /**
     * Reads the sequences of a file.
     *
     * @throws FormatException when a line is wrong, which it names, or nothing trains or tests
     */
    public static SkeletonSequences read(Path file) {
        SkeletonTable table = new SkeletonTable();
        CsvTable.read(file, List.of(HEADER, HEADER + ",split"), table::add);
        return table.sequences.build(file);
    }

    private void add(Row row) {
        int ofSequence = row.number(0, CsvTable.MOST);
        int ofFrame = row.number(1, CsvTable.MOST);
        int ofJoint = row.number(2, CsvTable.MOST);
        int ofLabel = row.number(LABEL, MOST_LABELS);
        Split ofSplit = row.columns() > SPLIT ? row.split(SPLIT) : null;
        if (ofSequence != sequence || ofFrame != frame) {
            if (ofSequence < sequence || (ofSequence == sequence && ofFrame < frame)) {
                throw row.wrong("it stands behind sequence " + sequence + ", frame " + frame
                        + ": sort the lines by sequence, frame and joint");
            }
            if (sequence >= 0) {
                sequences.endFrame(row::wrong);
            }
            joint = -1;
        }
        if (ofSequence != sequence) {
            label = ofLabel;
            split = ofSplit;
            int before = dealt.merge(label, 1, Integer::sum) - 1;
            sequences.begin(label, split == null ? FIVE.get(before % FIVE.size()) : split);
        }
        if (ofJoint != joint + 1) {
            throw row.wrong("joint " + ofJoint + " stands where " + (joint + 1)
                    + " should: number the joints of a frame from 0 without gaps");
        }
        if (ofLabel != label || ofSplit != split) {
            throw row.wrong("label or split is not that of the sequence's first line");
        }
        sequence = ofSequence;
        frame = ofFrame;
        joint = ofJoint;
        sequences.add(row.coordinate(3), row.coordinate(4), row.coordinate(5));
    }
}

package org.sentei.model;

/** Examples to train a classifier on, numbered from 0, and to judge it by. */
public interface LabelledExamples {
    /** What an example is there for. */
    enum Split {
        /** Its label trains. */
        TRAIN,
        /** Its label chooses among trained networks. */
        VALID,
        /** Its label judges the result. */
        TEST,
        /** Its label is not used. */
        OTHER
    }

    /** Labels there are, those of all splits. */
    int classes();

    /** The label of an example, -1 for none. */
    int label(int example);

    /** The examples of a split, ascending. */
    int[] members(Split split);
}

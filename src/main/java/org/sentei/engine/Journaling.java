package org.sentei.engine;

import java.io.IOException;
import java.nio.file.Path;
import org.sentei.format.OutputFolder;

/** Whether a run that ends early leaves what it has done, so that another run can go on from there. */
public enum Journaling {
    /** A run that ends early leaves nothing. */
    OFF,
    /**
     * What has been done is kept, group of sites by group or step of training by step, in a hidden folder {@code .NAME.partial}
     * beside the output until that is complete. Such a folder of an earlier run is an error.
     */
    ON,
    /**
     * Goes on from what an earlier run has kept, and keeps on like {@link #ON}; starts from the beginning when there is
     * nothing. The result is, times in the report apart, that of a run that was never interrupted.
     */
    RESUME;

    /**
     * Begins an output folder, or goes on with what an earlier run left of it.
     *
     * @param folder absent or empty
     * @throws org.sentei.format.FormatException when it is neither, when another run writes to it, or when one left something
     *     that is not to be resumed
     * @throws IOException when nothing can be written there
     */
    public OutputFolder open(Path folder) throws IOException {
        return this == RESUME ? OutputFolder.resume(folder) : OutputFolder.create(folder);
    }
}

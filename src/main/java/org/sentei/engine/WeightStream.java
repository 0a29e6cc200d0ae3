package org.sentei.engine;

import java.util.List;
import java.util.Optional;
import org.sentei.kernel.Backend;
import org.sentei.model.TensorSource;
import org.sentei.model.Uploads;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Brings the weights of groups of layers to the device, those of the next group while one is worked on. Where the device has no
 * memory for both, each group waits for its own: this is said once.
 */
final class WeightStream implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(WeightStream.class);

    private final List<List<String>> groups;
    private final TensorSource tensors;
    private final Backend backend;
    private Uploads next = Uploads.none();
    private boolean ahead;

    /** @param groups names of the tensors of each group */
    WeightStream(List<List<String>> groups, TensorSource tensors, Backend backend) {
        this.groups = groups;
        this.tensors = tensors;
        this.backend = backend;
        this.ahead = backend.copiesBeside();
    }

    /** The tensors of a group, whose turn has come; the caller's own. */
    Uploads of(int group) {
        Uploads begun = next;
        next = Uploads.none();
        if (group > 0 && !begun.areUnderway()) {
            tellOfNone(begun.bytes(), group);
        }
        return begun;
    }

    /** Begins with the group behind one that has been loaded, and hands that on; closes it when this fails. */
    Optional<Walk.Group> beginBehind(int index, Walk.Group loaded) {
        try {
            beginBehind(index);
            return Optional.of(loaded);
        } catch (RuntimeException e) {
            loaded.close();
            throw e;
        }
    }

    private void beginBehind(int group) {
        if (!ahead || group + 1 == groups.size()) {
            return;
        }
        next = Uploads.begin(groups.get(group + 1), tensors, backend);
        if (!next.areUnderway()) {
            tellOfNone(next.bytes(), group + 1);
        }
    }

    private void tellOfNone(long bytes, int group) {
        if (ahead) {
            ahead = false;
            LOG.info(
                    "group {}: its {} bytes of weights do not fit the device's memory beside what the group before it needs;"
                            + " from here on weights are copied when they are needed, not while the device computes",
                    group + 1,
                    bytes);
        }
    }

    /** Gives up what has been begun. */
    @Override
    public void close() {
        next.close();
    }
}

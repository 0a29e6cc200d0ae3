package org.sentei.engine;

import java.util.List;
import java.util.Optional;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.method.AttentionLoss;
import org.sentei.model.AttentionPair;
import org.sentei.model.Edit;
import org.sentei.model.LinearWeights;
import org.sentei.model.Site;

/**
 * Carries calibration data through a model, group of sites by group of sites: a group is a block, or a whole graph. Only one
 * group's weights are on the device at a time.
 */
interface Walk extends AutoCloseable {
    /** How many groups there are. */
    int groups();

    /** Opens the next group, which must be closed before the one after it; empty at the end. */
    Optional<Group> next();

    /** Whether, in the end, less data ran at once than it should, because the device had no memory for more. */
    default boolean halved() {
        return false;
    }

    @Override
    void close();

    /** Sites that are decided together, from the same inputs. */
    interface Group extends AutoCloseable {
        List<Site> sites();

        /** The site's weights as they are in the file, on the device until the group is committed. */
        LinearWeights weights(Site site);

        /** Runs all calibration data through the group as it is in the file; the data carry what earlier groups committed. */
        void observe(InputObserver observer);

        /**
         * How the group's inputs become attention matrices. What is not a weight of the sites belongs to the scope.
         *
         * @param pair sites of this group
         * @param length tokens of a window
         */
        default AttentionLoss.Layer attention(AttentionPair pair, long length, Scope scope) {
            return new AttentionLoss.Layer(
                    projection(pair.query(), null, 0),
                    projection(pair.key(), null, 0),
                    null,
                    null,
                    pair.geometry(length));
        }

        /** What a site does to its input, with a norm over each head or null. */
        default AttentionLoss.Projection projection(Site site, View gain, float epsilon) {
            LinearWeights linear = weights(site);
            return new AttentionLoss.Projection(linear.weight(), linear.bias(), gain, epsilon);
        }

        /**
         * From now on runs half as much data at once through this group and those after it: for when the device has no
         * memory for more.
         *
         * @return false when that changes nothing, because it has been done already or nothing can be halved
         */
        default boolean halveBatches() {
            return false;
        }

        /** Says what becomes of the group, so that the next groups see its consequences; nothing is asked of it afterwards. */
        void commit(List<Edit> edits);

        @Override
        void close();
    }

    /** Sees what the sites of a group read. */
    @FunctionalInterface
    interface InputObserver {
        /**
         * Some rows of one activation.
         *
         * @param key {@link Site#input()} of the sites that read it
         * @param rows F32 tokens x features, valid during the call
         * @param heldOut whether the rows are of the last quarter of the calibration samples, which only judges
         * @param batch number of the batch they are of, among the held out ones or the others
         */
        void input(String key, View rows, boolean heldOut, int batch);
    }
}

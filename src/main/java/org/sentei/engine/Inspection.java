package org.sentei.engine;

import java.util.List;
import org.sentei.model.Site;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Tensor;

/**
 * What is inside a model: its sites, with the exact number of zeros in each.
 *
 * @param totals sums over the sites
 */
public record Inspection(String architecture, List<SiteSummary> sites, Totals totals) {
    /**
     * One site.
     *
     * @param dtype element type in the file
     * @param zeros exact zeros of either sign
     * @param pattern the N:M pattern that all rows follow and that explains their zeros, for example {@code 2:4}, or null
     *     when there is none
     */
    public record SiteSummary(
            String name, long rows, long cols, String dtype, long parameters, long zeros, String pattern) {}

    /**
     * Sums over the sites, and the size of the whole model.
     *
     * @param modelParameters all weights, those outside of sites included
     * @param bytes of all weight files
     */
    public record Totals(int sites, long parameters, long zeros, double sparsity, long modelParameters, long bytes) {}

    /** Group sizes that hardware and formats know, in the order they are tried. */
    private static final int[] GROUPS = {4, 8, 16};

    static Inspection of(OpenModel model) {
        List<SiteSummary> sites = model.sites().stream()
                .map(site -> summarize(site, model.tensors().tensor(site.weight())))
                .toList();
        long parameters = sites.stream().mapToLong(SiteSummary::parameters).sum();
        long zeros = sites.stream().mapToLong(SiteSummary::zeros).sum();
        return new Inspection(
                model.architecture(),
                sites,
                new Totals(
                        sites.size(),
                        parameters,
                        zeros,
                        parameters == 0 ? 0 : (double) zeros / parameters,
                        model.parameters(),
                        model.bytes()));
    }

    private static SiteSummary summarize(Site site, Tensor weight) {
        long zeros = 0;
        int[] fewest = GROUPS.clone();
        int[] current = new int[GROUPS.length];
        for (long row = 0; row < site.rows(); row++) {
            for (long col = 0; col < site.cols(); col++) {
                boolean zero = isZero(site, weight, row, col);
                zeros += zero ? 1 : 0;
                for (int g = 0; g < GROUPS.length; g++) {
                    current[g] += zero ? 1 : 0;
                    if (col % GROUPS[g] == GROUPS[g] - 1) {
                        fewest[g] = Math.min(fewest[g], current[g]);
                        current[g] = 0;
                    }
                }
            }
        }
        return new SiteSummary(
                site.name(),
                site.rows(),
                site.cols(),
                weight.dtype().label(),
                site.parameters(),
                zeros,
                pattern(site, fewest, zeros));
    }

    private static boolean isZero(Site site, Tensor weight, long row, long col) {
        long index = site.transposed() ? col * site.rows() + row : row * site.cols() + col;
        DType dtype = weight.dtype();
        return Floats.get(dtype, weight.data(), index) == 0;
    }

    private static String pattern(Site site, int[] fewest, long zeros) {
        for (int g = 0; g < GROUPS.length; g++) {
            // Unstructured sparsity leaves a zero in nearly every long group too, but many more zeros than that
            // explains.
            boolean explains = zeros <= 1.05 * fewest[g] * site.parameters() / GROUPS[g];
            boolean holds = site.cols() % GROUPS[g] == 0 && fewest[g] > 0 && fewest[g] < GROUPS[g] && explains;
            if (holds) {
                return fewest[g] + ":" + GROUPS[g];
            }
        }
        return null;
    }
}

package org.sentei.method.quantize;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;

/** Writes histograms of magnitudes, and times our search for the least divergence on each: see kl_search.sh. */
public final class KlSearch {
    private KlSearch() {}

    public static void main(String[] args) throws Exception {
        Random random = new Random(7);
        for (int bins : new int[] {1024, 2048, 4096}) {
            long[] counts = new long[bins];
            for (int i = 0; i < 2_000_000; i++) {
                double magnitude = -Math.log(1 - random.nextDouble());
                counts[(int) Math.min(bins - 1, magnitude * bins / 16)]++;
            }
            StringBuilder text = new StringBuilder();
            for (long count : counts) {
                text.append(count).append('\n');
            }
            Files.writeString(Path.of(args[0], "histogram-" + bins + ".txt"), text);
            int kept = 0;
            double best = Double.POSITIVE_INFINITY;
            for (int run = 0; run < 30; run++) {
                long start = System.nanoTime();
                kept = Ranges.klThreshold(counts, 128);
                best = Math.min(best, (System.nanoTime() - start) * 1e-6);
            }
            System.out.printf("ours: %d bins, keeps %d, %.2f ms%n", bins, kept, best);
        }
    }
}

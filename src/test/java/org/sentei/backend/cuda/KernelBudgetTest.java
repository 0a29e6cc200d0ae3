package org.sentei.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/** What ptxas says of each kernel on each target that was compiled, against {@code kernels/budget.tsv}. */
class KernelBudgetTest {
    private static final Path REPORTS = Path.of("kernels/target/fatbin");
    private static final Path BUDGET = Path.of("kernels/budget.tsv");
    private static final Pattern ENTRY = Pattern.compile("Compiling entry function '(\\w+)' for '(\\w+)'");
    private static final Pattern SPILLS = Pattern.compile("(\\d+) bytes spill stores, (\\d+) bytes spill loads");
    private static final Pattern USED = Pattern.compile("Used (\\d+) registers(?:.*?(\\d+) bytes smem)?");

    /** One kernel on one target. */
    private record Need(String kernel, String target, int registers, int shared, int spilled) {}

    @Test
    void everyKernelKeepsToItsBudget() throws IOException {
        List<Need> needs = needs();
        if (needs.isEmpty()) {
            EmulatedDriver.skipUnlessRequired("nvcc", "which compiles the CUDA kernels");
        }
        Map<String, Map<String, Integer>> budget = budget();
        List<String> over = new ArrayList<>();
        for (Need need : needs) {
            Map<String, Integer> allowed = budget.get(need.kernel());
            if (allowed == null
                    || need.spilled() > allowed.get("spills")
                    || need.registers() > allowed.getOrDefault(need.target(), 0)
                    || need.shared() > allowed.get("shared")) {
                over.add(need + " with a budget of " + allowed);
            }
        }
        assertThat(over)
                .as("kernels that need more than kernels/budget.tsv says; kernels/budget.sh tells how to change it")
                .isEmpty();
        assertThat(budget.keySet())
                .containsExactlyElementsOf(
                        needs.stream().map(Need::kernel).sorted().distinct().toList());
    }

    private static List<Need> needs() throws IOException {
        List<Need> needs = new ArrayList<>();
        for (String stem : EmulatedDriver.stems()) {
            Path report = REPORTS.resolve(stem + ".ptxas");
            if (!Files.exists(report)) {
                return List.of();
            }
            String kernel = null;
            String target = null;
            int spilled = 0;
            for (String line : Files.readAllLines(report)) {
                Matcher matcher = ENTRY.matcher(line);
                if (matcher.find()) {
                    kernel = matcher.group(1);
                    target = matcher.group(2);
                }
                matcher = SPILLS.matcher(line);
                if (matcher.find()) {
                    spilled = Integer.parseInt(matcher.group(1)) + Integer.parseInt(matcher.group(2));
                }
                matcher = USED.matcher(line);
                if (matcher.find()) {
                    int shared = matcher.group(2) == null ? 0 : Integer.parseInt(matcher.group(2));
                    needs.add(new Need(kernel, target, Integer.parseInt(matcher.group(1)), shared, spilled));
                }
            }
        }
        return needs;
    }

    /** By kernel; {@code shared}, {@code spills} and registers by target. */
    private static Map<String, Map<String, Integer>> budget() throws IOException {
        List<String[]> rows = Files.readAllLines(BUDGET).stream()
                .map(line -> line.split("\t"))
                .toList();
        Map<String, Map<String, Integer>> budget = new TreeMap<>();
        for (String[] row : rows.subList(1, rows.size())) {
            Map<String, Integer> of = new TreeMap<>();
            for (int i = 1; i < row.length; i++) {
                of.put(rows.getFirst()[i], Integer.parseInt(row[i]));
            }
            budget.put(row[0], of);
        }
        return budget;
    }
}

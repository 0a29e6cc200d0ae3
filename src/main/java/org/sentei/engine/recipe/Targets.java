package org.sentei.engine.recipe;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.sentei.model.Site;

/** Which sites each step of a recipe works on. */
public final class Targets {
    private Targets() {}

    /**
     * Resolves the patterns of every step; the lists keep the model's order.
     *
     * <p>A step without targets takes every site but those with the role {@link Site.Role#HEAD}; one of method attention those that
     * make queries or keys. In a pattern {@code *}
     * stands for any run of characters and {@code ?} for one; everything else stands for itself.
     *
     * @return one list of sites a step
     * @throws RecipeException when a target matches no site, a step ends up without sites, or two steps claim one site
     */
    public static List<List<Site>> resolve(Recipe recipe, List<Site> sites) {
        if (recipe.steps().isEmpty()) {
            return List.of();
        }
        if (sites.isEmpty()) {
            throw new RecipeException(
                    "recipe: the model has no linear site to work on; look at it with sentei inspect MODEL");
        }
        List<List<Site>> resolved = new ArrayList<>();
        Map<String, Integer> claimedBy = new HashMap<>();
        for (int i = 0; i < recipe.steps().size(); i++) {
            List<Site> claimed = claim(recipe.steps().get(i), label(recipe, i), sites);
            for (Site site : claimed) {
                Integer other = claimedBy.putIfAbsent(site.name(), i);
                if (other != null) {
                    throw new RecipeException("site " + site.name() + " is claimed by " + label(recipe, other) + " and "
                            + label(recipe, i) + ": give each site to one step, with targets or ignore");
                }
            }
            resolved.add(claimed);
        }
        return List.copyOf(resolved);
    }

    private static String label(Recipe recipe, int index) {
        return "step " + (index + 1) + " (" + recipe.steps().get(index).method().key() + ")";
    }

    private static List<Site> claim(Recipe.Step step, String label, List<Site> sites) {
        for (String pattern : step.targets()) {
            if (sites.stream().noneMatch(site -> matches(pattern, site.name()))) {
                throw new RecipeException(label + ": target " + pattern
                        + " matches no site of the model; the nearest is "
                        + Nearest.toPattern(
                                pattern, sites.stream().map(Site::name).toList())
                        + " (sentei inspect MODEL lists all)");
            }
        }
        List<Site> claimed = sites.stream()
                .filter(site -> step.targets().isEmpty()
                        ? isUsual(step, site)
                        : step.targets().stream().anyMatch(pattern -> matches(pattern, site.name())))
                .filter(site -> step.ignore().stream().noneMatch(pattern -> matches(pattern, site.name())))
                .toList();
        if (claimed.isEmpty()) {
            throw new RecipeException(label
                    + (step.ignore().isEmpty() && step.attention() != null
                            ? ": the model has no site that makes queries or keys alone, which are what attention prunes"
                            : step.ignore().isEmpty()
                                    ? ": the model's only sites are heads, which a step without targets leaves alone; name them"
                                            + " in targets"
                                    : ": no site is left after ignore " + step.ignore()
                                            + "; narrow ignore or remove the step")
                    + " (sentei inspect MODEL lists the sites)");
        }
        return claimed;
    }

    private static boolean isUsual(Recipe.Step step, Site site) {
        return step.attention() == null
                ? site.role() != Site.Role.HEAD
                : site.role() == Site.Role.QUERY || site.role() == Site.Role.KEY;
    }

    /** Glob match in time proportional to the product of the lengths at worst: only the last star is ever retried. */
    public static boolean matches(String pattern, String name) {
        int p = 0;
        int n = 0;
        int star = -1;
        int resume = 0;
        while (n < name.length()) {
            if (p < pattern.length() && pattern.charAt(p) == '*') {
                star = p++;
                resume = n;
            } else if (p < pattern.length() && (pattern.charAt(p) == '?' || pattern.charAt(p) == name.charAt(n))) {
                p++;
                n++;
            } else if (star >= 0) {
                p = star + 1;
                n = ++resume;
            } else {
                return false;
            }
        }
        while (p < pattern.length() && pattern.charAt(p) == '*') {
            p++;
        }
        return p == pattern.length();
    }
}

package org.sentei.format;

import java.util.ArrayDeque;
import java.util.Deque;

/**
 * Judges the regular expression of a tokenizer: a search that gives up for too many attempts ends the process, so what can
 * match a text in very many ways is refused. The expressions of published tokenizers are far simpler.
 */
final class TokenizerPattern {
    private static final int LONGEST = 4096;
    private static final int MOST_REPEATS = 1000;
    /** Unbounded repetitions one after the other: attempts grow with the length of the text to this power. */
    private static final int MOST_UNBOUNDED = 3;

    private static final String ESCAPES = "dDwWsShHbBAzZnrtfvexpPu0";

    private final String pattern;
    private int at;

    private TokenizerPattern(String pattern) {
        this.pattern = pattern;
    }

    /** What has been seen of a group since it began. */
    private static final class Group {
        private boolean ambiguous;
        private int unbounded;
        private int mostUnbounded;
    }

    /** Why the expression is refused; empty when it is simple enough. */
    static String refusal(String pattern) {
        if (pattern.length() > LONGEST) {
            return "is longer than " + LONGEST + " characters";
        }
        TokenizerPattern scan = new TokenizerPattern(pattern);
        try {
            return scan.scan();
        } catch (StringIndexOutOfBoundsException e) {
            return "ends too early";
        }
    }

    private String scan() {
        Deque<Group> open = new ArrayDeque<>();
        open.push(new Group());
        while (at < pattern.length()) {
            Group atom = new Group();
            char first = pattern.charAt(at++);
            switch (first) {
                case '(' -> {
                    if (!isPlainGroup()) {
                        return "has a group of a rare kind";
                    }
                    open.push(new Group());
                    continue;
                }
                case ')' -> {
                    if (open.size() == 1) {
                        return "closes a group that was not opened";
                    }
                    atom = open.pop();
                    atom.mostUnbounded = Math.max(atom.mostUnbounded, atom.unbounded);
                }
                case '|' -> {
                    Group group = open.getFirst();
                    group.ambiguous = true;
                    group.mostUnbounded = Math.max(group.mostUnbounded, group.unbounded);
                    group.unbounded = 0;
                    continue;
                }
                case '[' -> skipClass();
                case '\\' -> {
                    if (!skipEscape()) {
                        return "refers to a group or has a rare escape";
                    }
                }
                default -> {
                    // a character stands for itself, or is an anchor or the dot
                }
            }
            String wrong = repetition(atom);
            if (!wrong.isEmpty()) {
                return wrong;
            }
            Group group = open.getFirst();
            group.ambiguous |= atom.ambiguous;
            group.unbounded += atom.mostUnbounded;
            if (group.unbounded > MOST_UNBOUNDED) {
                return "repeats without bound more than " + MOST_UNBOUNDED + " times in a row";
            }
        }
        return open.size() == 1 ? "" : "leaves a group open";
    }

    /** Steps over what follows an opening bracket: look-around, flags, no capture. */
    private boolean isPlainGroup() {
        if (pattern.charAt(at) == '*') {
            return false;
        }
        if (pattern.charAt(at) != '?') {
            return true;
        }
        at++;
        if (pattern.startsWith("<=", at) || pattern.startsWith("<!", at)) {
            at += 2;
            return true;
        }
        if (":=!>".indexOf(pattern.charAt(at)) >= 0) {
            at++;
            return true;
        }
        while ("imsx-".indexOf(pattern.charAt(at)) >= 0) {
            at++;
        }
        return pattern.charAt(at++) == ':';
    }

    private void skipClass() {
        int depth = 1;
        if (pattern.charAt(at) == '^') {
            at++;
        }
        if (pattern.charAt(at) == ']') {
            at++;
        }
        while (depth > 0) {
            switch (pattern.charAt(at++)) {
                case '\\' -> at++;
                case '[' -> depth++;
                case ']' -> depth--;
                default -> {
                    // a member
                }
            }
        }
    }

    private boolean skipEscape() {
        char escaped = pattern.charAt(at++);
        if (Character.isLetterOrDigit(escaped) && ESCAPES.indexOf(escaped) < 0) {
            return false;
        }
        if ("pPxu".indexOf(escaped) >= 0 && at < pattern.length() && pattern.charAt(at) == '{') {
            at = pattern.indexOf('}', at) + 1;
            return at > 0;
        }
        return true;
    }

    /** Reads the repetition behind an atom, if there is one, and adds it to what is known of the atom. */
    private String repetition(Group atom) {
        int before = at;
        long least = 1;
        long most = 1;
        char next = at < pattern.length() ? pattern.charAt(at) : 0;
        if (next == '*' || next == '+' || next == '?') {
            at++;
            least = next == '+' ? 1 : 0;
            most = next == '?' ? 1 : Long.MAX_VALUE;
        } else if (next == '{') {
            int end = pattern.indexOf('}', at);
            String range = end < 0 ? "" : pattern.substring(at + 1, end);
            if (!range.matches("[0-9]{1,4}|[0-9]{1,4},[0-9]{0,4}|,[0-9]{1,4}")) {
                return "has a brace that is no repetition of at most " + MOST_REPEATS;
            }
            String[] bounds = range.split(",", -1);
            least = bounds[0].isEmpty() ? 0 : Long.parseLong(bounds[0]);
            most = bounds[bounds.length - 1].isEmpty() ? Long.MAX_VALUE : Long.parseLong(bounds[bounds.length - 1]);
            if (least > MOST_REPEATS || (most > MOST_REPEATS && most != Long.MAX_VALUE)) {
                return "repeats more than " + MOST_REPEATS + " times";
            }
            at = end + 1;
        }
        if (at == before) {
            return "";
        }
        if (at < pattern.length() && (pattern.charAt(at) == '?' || (pattern.charAt(at) == '+' && next != '{'))) {
            at++;
        }
        if (at < pattern.length() && "*+?{".indexOf(pattern.charAt(at)) >= 0) {
            return "repeats a repetition";
        }
        if (most > 1 && atom.ambiguous) {
            return "repeats a group that can match in several ways";
        }
        atom.ambiguous |= least != most;
        if (most > MOST_REPEATS) {
            atom.mostUnbounded++;
        }
        return "";
    }
}

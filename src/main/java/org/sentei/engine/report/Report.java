package org.sentei.engine.report;

import com.fasterxml.jackson.annotation.JsonInclude;
import java.time.Instant;
import java.util.List;
import java.util.stream.LongStream;

/**
 * Everything a run has to say about itself; {@link ReportWriter} turns it into {@code report.json} and
 * {@code report.html}. Every number is finite: a NaN that gets this far is a bug and refused here.
 *
 * @param sentei version that ran
 * @param seconds wall time of the whole run
 * @param calibration null when no method needed data
 * @param quality what was measured before and after, empty when nothing was
 * @param depth null when nothing became shallower
 * @param quantization null when nothing was quantized
 * @param weights how the weights of the edited sites are distributed
 * @param attention layers whose attention matrices were looked at, empty where method attention has none
 */
public record Report(
        String sentei,
        Instant started,
        double seconds,
        long seed,
        Model model,
        Calibration calibration,
        List<Binding> backends,
        List<SiteResult> sites,
        Totals totals,
        Storage storage,
        List<Measure> quality,
        Depth depth,
        Quantization quantization,
        List<Weights> weights,
        List<Attention> attention,
        List<String> warnings) {

    /** Copies the lists; numbers must be finite. */
    public Report {
        finite("report", "seconds", seconds);
        backends = List.copyOf(backends);
        sites = List.copyOf(sites);
        quality = List.copyOf(quality);
        weights = List.copyOf(weights);
        attention = List.copyOf(attention);
        warnings = List.copyOf(warnings);
    }

    /**
     * The model that went in.
     *
     * @param sha256 hash of its weights, in hexadecimal
     * @param parameters all parameters, embeddings included
     * @param bytes size of the weight files
     */
    public record Model(String path, String sha256, String architecture, long parameters, long bytes) {}

    /**
     * The data that calibrated.
     *
     * @param source file or resource
     * @param samples windows used
     * @param tokens tokens used
     */
    public record Calibration(String source, String sha256, long samples, long tokens) {}

    /**
     * Tokens that the error of a site rests on at most, unless its method collects products of all. For wide inputs those take
     * more memory than the layers and nearly half as much time, which an error alone is not worth.
     */
    public static final long ERROR_TOKENS = 2048;

    /** Which backend ran an op, on which device. */
    public record Binding(String op, String backend, String device) {}

    /**
     * What happened to one site.
     *
     * @param rows outputs, whatever the file's orientation
     * @param cols inputs
     * @param requested sparsity the recipe asked for
     * @param pruned weights that the mask of this run removes, already-zero weights included
     * @param zeros all zeros afterwards
     * @param error relative output error on calibration data, ‖Y−Ŷ‖/‖Y‖, on the first {@link #ERROR_TOKENS} of it unless the
     *     method is sparsegpt; null where nothing was measured
     * @param seconds time spent on this site
     * @param sparsity zeros / parameters
     * @param pattern {@code unstructured} or N:M
     * @param score the score used, for example {@code stade} or {@code wanda} where a variant chooses per site
     * @param bias what happened to the bias: {@code updated}, {@code added}, {@code kept}; null where the method has no say
     * @param meanEnergy share of the input's energy that its mean carries, Σμ²/ΣE[x²]; null where it was not measured
     * @param damping share of the mean second moment that was added to factor them; null for methods that do not
     */
    public record SiteResult(
            String name,
            String method,
            long rows,
            long cols,
            double requested,
            long pruned,
            long zeros,
            long parameters,
            Double error,
            double seconds,
            double sparsity,
            String pattern,
            @JsonInclude(JsonInclude.Include.NON_NULL) String score,
            @JsonInclude(JsonInclude.Include.NON_NULL) String bias,
            @JsonInclude(JsonInclude.Include.NON_NULL) Double meanEnergy,
            @JsonInclude(JsonInclude.Include.NON_NULL) Double damping) {
        /** Refuses numbers that are not finite or do not fit together with an {@link IllegalArgumentException}. */
        public SiteResult {
            finite(name, "requested", requested);
            finite(name, "seconds", seconds);
            finite(name, "sparsity", sparsity);
            if (error != null) {
                finite(name, "error", error);
            }
            if (meanEnergy != null) {
                finite(name, "mean_energy", meanEnergy);
            }
            if (damping != null) {
                finite(name, "damping", damping);
            }
            if (!(zeros >= 0 && zeros <= parameters && pruned >= 0 && pruned <= zeros && parameters == rows * cols)) {
                throw new IllegalArgumentException("site " + name + ": pruned " + pruned + ", zeros " + zeros + " and "
                        + parameters + " parameters of " + rows + "x" + cols + " do not fit together");
            }
        }
    }

    /**
     * What pruning did to the attention matrices of one layer. Errors are {@code ||P - A|| / ||A||}, A the dense matrices and P
     * the pruned ones of all heads and windows; the held-out windows are calibration text that no gradient saw.
     *
     * @param query site that makes the queries
     * @param key site that makes the keys
     * @param descent as in the recipe
     * @param start as in the recipe
     * @param step after which the mask that is kept was found, 0 for the start
     * @param errors on the calibration windows that each step saw
     * @param heldOut error of the hard masks on the held-out windows, after some of the steps
     * @param methods errors on the held-out windows that each method would make at these sites alone, with the same budget
     * @param queryDensity share of the query weights kept, head by head
     * @param keyDensity share of the key weights kept, head by head
     * @param picture attention matrices of one head, null for all layers but the first
     */
    public record Attention(
            String query,
            String key,
            String descent,
            String start,
            int step,
            List<Double> errors,
            List<Look> heldOut,
            List<MethodError> methods,
            List<Double> queryDensity,
            List<Double> keyDensity,
            @JsonInclude(JsonInclude.Include.NON_NULL) Picture picture) {
        /** Copies the lists; numbers must be finite. */
        public Attention {
            errors = List.copyOf(errors);
            heldOut = List.copyOf(heldOut);
            methods = List.copyOf(methods);
            queryDensity = List.copyOf(queryDensity);
            keyDensity = List.copyOf(keyDensity);
            for (double value : errors) {
                finite(query, "error", value);
            }
        }
    }

    /** The error after a step. */
    public record Look(int step, double error) {
        /** Refuses numbers that are not finite with an {@link IllegalArgumentException}. */
        public Look {
            finite("step " + step, "error", error);
        }
    }

    /** The error that a method makes. */
    public record MethodError(String method, double error) {
        /** Refuses numbers that are not finite with an {@link IllegalArgumentException}. */
        public MethodError {
            finite(method, "error", error);
        }
    }

    /**
     * The upper left corner of attention matrices of one head in the first held-out window.
     *
     * @param head counted from 0
     * @param tokens rows and columns of the corner
     */
    public record Picture(int head, int tokens, List<Panel> panels) {
        /** Copies the list. */
        public Picture {
            panels = List.copyOf(panels);
        }
    }

    /**
     * One matrix.
     *
     * @param method {@code dense}, or as in {@link MethodError}
     * @param levels of its elements row by row, a hexadecimal digit each: 15 times the square root, rounded
     */
    public record Panel(String method, String levels) {}

    /**
     * Sums over the edited sites.
     *
     * @param parameters of these sites
     * @param zeros exact zeros among them, afterwards
     * @param sparsity zeros / parameters
     * @param bytesBefore size of the whole model's weight files
     */
    public record Totals(long parameters, long zeros, double sparsity, long bytesBefore, long bytesAfter) {
        /** Refuses numbers that are not finite with an {@link IllegalArgumentException}. */
        public Totals {
            finite("totals", "sparsity", sparsity);
        }

        /** Sums up the sites. */
        public static Totals of(List<SiteResult> sites, long bytesBefore, long bytesAfter) {
            long parameters = sites.stream().mapToLong(SiteResult::parameters).sum();
            long zeros = sites.stream().mapToLong(SiteResult::zeros).sum();
            double sparsity = parameters == 0 ? 0 : (double) zeros / parameters;
            return new Totals(parameters, zeros, sparsity, bytesBefore, bytesAfter);
        }
    }

    /**
     * How the weights lie in the files that were written.
     *
     * @param format {@code dense} or {@code bitmask}
     * @param packedTensors weights that are stored as kept values and a mask
     * @param packedDenseBytes what those would take with their zeros
     * @param packedBytes what they take
     * @param denseBytes what all weight files together would take with all zeros
     * @param readers which tools read the files
     */
    public record Storage(
            String format,
            int packedTensors,
            long packedDenseBytes,
            long packedBytes,
            long denseBytes,
            List<Reader> readers) {
        public Storage {
            readers = List.copyOf(readers);
        }
    }

    /** A tool, and what it makes of the files. */
    public record Reader(String tool, String reads) {}

    /**
     * How a network got shallower.
     *
     * @param mode one-shot or fine-tune
     * @param linearise identity, sign or affine
     * @param entropy the rule: default or easier-repo
     * @param activations in the order they run
     * @param merges what was made of layers that became neighbours, and what not
     * @param before the model that went in
     * @param after the one that came out
     * @param linearSeconds of a run with lines and nothing merged
     * @param rounds of training, the first of them the model that came; empty for one-shot
     */
    public record Depth(
            String mode,
            String linearise,
            String entropy,
            List<Activation> activations,
            List<LayerMerge> merges,
            Size before,
            Size after,
            double linearSeconds,
            List<Round> rounds) {
        /** Copies the lists. */
        public Depth {
            rounds = List.copyOf(rounds);
            activations = List.copyOf(activations);
            merges = List.copyOf(merges);
            finite("depth", "linear_seconds", linearSeconds);
        }

        /** Activations that became linear, at once or in rounds. */
        public long madeLinear() {
            return activations.stream().filter(Activation::linear).count()
                    + rounds.stream()
                            .filter(Round::kept)
                            .mapToLong(round -> round.linearised().size())
                            .sum();
        }
    }

    /**
     * A round of training.
     *
     * @param linearised activations that became linear in it
     * @param entropies theirs before, in bits
     * @param remaining activations after it
     * @param valid accuracy on held-out images
     * @param test accuracy on test images
     * @param kept whether the accuracy is within delta
     * @param seconds of a run in ONNX Runtime with nothing merged; null where the round is not kept
     */
    public record Round(
            int round,
            List<String> linearised,
            List<Double> entropies,
            int remaining,
            double valid,
            double test,
            boolean kept,
            @JsonInclude(JsonInclude.Include.NON_NULL) Double seconds) {
        /** Copies the lists. */
        public Round {
            linearised = List.copyOf(linearised);
            entropies = List.copyOf(entropies);
            finite("round " + round, "valid", valid);
            finite("round " + round, "test", test);
        }
    }

    /**
     * A measured activation.
     *
     * @param function for example relu6
     * @param entropy mean over its units, in bits
     * @param on elements above zero
     * @param off elements below zero
     * @param zero elements at zero
     * @param linear whether it is linear now
     */
    public record Activation(
            String name, String function, long units, double entropy, long on, long off, long zero, boolean linear) {
        public Activation {
            finite(name, "entropy", entropy);
        }
    }

    /**
     * Layers that could become one.
     *
     * @param layers their names
     * @param border how outputs near the border of images are kept right; null where there was no way
     * @param separate multiplications of the separate layers for a sample
     * @param merged multiplications of the merged one
     * @param separateSeconds median of a run in ONNX Runtime; null where it was not timed
     * @param mergedSeconds of the merged one, in the same rounds
     * @param made whether they are one now
     * @param reason why, in words
     */
    public record LayerMerge(
            String layers,
            @JsonInclude(JsonInclude.Include.NON_NULL) String border,
            long separate,
            long merged,
            @JsonInclude(JsonInclude.Include.NON_NULL) Double separateSeconds,
            @JsonInclude(JsonInclude.Include.NON_NULL) Double mergedSeconds,
            boolean made,
            String reason) {
        public LayerMerge {
            for (Double seconds : new Double[] {separateSeconds, mergedSeconds}) {
                if (seconds != null) {
                    finite(layers, "seconds", seconds);
                }
            }
        }
    }

    /**
     * Size of a network.
     *
     * @param depth layers with weights on the longest path
     * @param activations rectifiers on the path with most of them
     * @param multiplications for one sample
     * @param seconds median of a run in ONNX Runtime, one sample
     */
    public record Size(long depth, long activations, long parameters, long multiplications, double seconds) {
        public Size {
            finite("size", "seconds", seconds);
        }
    }

    /**
     * What quantization did, and what each of its passes was worth.
     *
     * @param form of the file: qdq, tensorrt or qlinear
     * @param layers that compute with integers
     * @param inFloat names and operators of the layers that do not
     * @param paired null when nothing was scored
     * @param executor null when nothing was scored
     */
    public record Quantization(
            String form,
            List<QuantizedLayer> layers,
            List<Pass> passes,
            List<String> inFloat,
            @JsonInclude(JsonInclude.Include.NON_NULL) Paired paired,
            @JsonInclude(JsonInclude.Include.NON_NULL) Executor executor) {
        /** Copies the lists. */
        public Quantization {
            layers = List.copyOf(layers);
            passes = List.copyOf(passes);
            inFloat = List.copyOf(inFloat);
        }
    }

    /**
     * A layer that computes with integers.
     *
     * @param rows outputs
     * @param cols weights of an output
     * @param zerosBefore exact zeros of its weights, all of which are zeros afterwards
     * @param signalToNoise of what it gives on held-out samples, in decibels; null where that is not rounded
     */
    public record QuantizedLayer(
            String name,
            String operator,
            long rows,
            long cols,
            long zerosBefore,
            long zerosAfter,
            Double signalToNoise) {
        public QuantizedLayer {
            if (signalToNoise != null) {
                finite(name, "signal_to_noise", signalToNoise);
            }
        }
    }

    /**
     * The network behind a pass, its layers rounded as the recipe has it up to there.
     *
     * @param signalToNoise of the outputs on held-out samples, in decibels; null for the float network
     * @param score share of the first labelled samples that came out right; null when there are none
     */
    public record Pass(String name, Double signalToNoise, Double score) {
        public Pass {
            if (signalToNoise != null) {
                finite(name, "signal_to_noise", signalToNoise);
            }
            if (score != null) {
                finite(name, "score", score);
            }
        }
    }

    /**
     * The integers on our own kernels, beside ONNX Runtime on the same file.
     *
     * @param samples the first labelled ones
     * @param score share of them that our kernels get right
     * @param runtimeScore share that ONNX Runtime gets right
     * @param agreement share of equal predictions
     */
    public record Executor(String backend, long samples, double score, double runtimeScore, double agreement) {
        public Executor {
            finite("executor", "score", score);
            finite("executor", "runtime_score", runtimeScore);
            finite("executor", "agreement", agreement);
        }
    }

    /** How many labelled samples came out right of both models, of the one before or after alone, or of none. */
    public record Paired(long both, long onlyBefore, long onlyAfter, long neither) {}

    /** One measured quality, for example {@code perplexity}, of the original and of the compressed model. */
    public record Measure(String metric, double before, double after) {
        /** Refuses numbers that are not finite with an {@link IllegalArgumentException}. */
        public Measure {
            finite(metric, "before", before);
            finite(metric, "after", after);
        }
    }

    /**
     * How many weights have which value: {@link #BINS} bins of one width from {@code -limit} to {@code limit}. The outermost
     * bins take what lies beyond; exact zeros are in no bin.
     *
     * @param limit a power of two
     */
    public record Weights(
            String site, double limit, long zerosBefore, long zerosAfter, List<Long> before, List<Long> after) {
        public static final int BINS = 64;

        public Weights {
            finite(site, "limit", limit);
            before = List.copyOf(before);
            after = List.copyOf(after);
            if (before.size() != BINS
                    || after.size() != BINS
                    || total(zerosBefore, before) != total(zerosAfter, after)) {
                throw new IllegalArgumentException("site " + site + " has histograms of " + before.size() + " and "
                        + after.size() + " bins and " + total(zerosBefore, before) + " and " + total(zerosAfter, after)
                        + " weights");
            }
        }

        /** All weights of the site, zeros included. */
        public long total() {
            return total(zerosBefore, before);
        }

        private static long total(long zeros, List<Long> bins) {
            return zeros + bins.stream().mapToLong(Long::longValue).sum();
        }

        /** The histogram of several sites together, over the widest of their ranges. */
        static Weights sum(String name, List<Weights> parts) {
            double limit = parts.stream().mapToDouble(Weights::limit).max().orElseThrow();
            long zerosBefore = 0;
            long zerosAfter = 0;
            long[] before = new long[BINS];
            long[] after = new long[BINS];
            for (Weights part : parts) {
                zerosBefore += part.zerosBefore;
                zerosAfter += part.zerosAfter;
                for (int i = 0; i < BINS; i++) {
                    // ranges are powers of two, so that a narrow bin lies within one wide bin
                    int bin = (int) Math.floor((i - BINS / 2) * part.limit / limit) + BINS / 2;
                    before[bin] += part.before.get(i);
                    after[bin] += part.after.get(i);
                }
            }
            return new Weights(
                    name,
                    limit,
                    zerosBefore,
                    zerosAfter,
                    LongStream.of(before).boxed().toList(),
                    LongStream.of(after).boxed().toList());
        }
    }

    private static void finite(String subject, String name, double value) {
        if (!Double.isFinite(value)) {
            throw new IllegalArgumentException(
                    subject + ": " + name + " is " + value + ", a report has finite numbers");
        }
    }
}

package org.sentei.engine;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.concurrent.CancellationException;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.model.HiddenStates;
import org.sentei.model.LinearObserver;
import org.sentei.model.ModelException;
import org.sentei.model.TokenBatch;
import org.sentei.model.Transformer;

/**
 * How surprised a decoder is by a text: exp of the mean negative log-likelihood of the next token.
 *
 * <p>The text is cut into consecutive windows; each is scored alone, its first token being context only. The likelihoods
 * are computed in fp64 from fp32 logits. All windows go through a block before the next block is loaded.
 */
final class Perplexity {
    /** Tokens on the device at once. */
    private static final int BATCH_TOKENS = 4096;

    private Perplexity() {}

    /**
     * Perplexity over the whole windows of a text; the last partial one is dropped.
     *
     * @param length tokens of a window, at least 2
     * @throws ModelException for a model without logits, windows it cannot take, or a text shorter than one window
     * @throws RunException when the logits are not finite
     * @throws CancellationException when {@code progress} asks for it
     */
    static double of(Transformer model, int[] tokens, int length, Backend backend, Progress progress) {
        if (model.spec().head() == null) {
            throw new ModelException("perplexity needs a decoder, but a "
                    + model.spec().modelType() + " model gives no logits; evaluate it as an encoder");
        }
        if (length < 2 || length > model.spec().maximumLength()) {
            throw new ModelException("windows of " + length + " tokens cannot be scored; this model takes 2 to "
                    + model.spec().maximumLength());
        }
        TokenBatch windows = windows(tokens, length);
        int steps = model.blocks() + 1;
        Likelihood likelihood = new Likelihood(windows, backend);
        try (Scope scope = new Scope(backend);
                HiddenStates states = new HiddenStates(model, windows.split(BATCH_TOKENS), scope)) {
            for (int block = 0; block < model.blocks(); block++) {
                progress.checkpoint("perplexity: block " + (block + 1) + " of " + model.blocks(), block, steps);
                try (Scope blockScope = scope.child()) {
                    states.advance(model.load(block, blockScope), LinearObserver.NONE);
                }
            }
            progress.checkpoint("perplexity: logits", steps - 1, steps);
            try (Scope headScope = scope.child()) {
                states.finish(model.loadHead(headScope), LinearObserver.NONE, likelihood);
            }
        }
        progress.advanced("perplexity", steps, steps);
        return likelihood.perplexity();
    }

    private static TokenBatch windows(int[] tokens, int length) {
        int[][] windows = new int[tokens.length / length][];
        if (windows.length == 0) {
            throw new ModelException("the text has " + tokens.length + " tokens, less than one window of " + length
                    + "; give a longer text or shorter windows");
        }
        for (int i = 0; i < windows.length; i++) {
            windows[i] = Arrays.copyOfRange(tokens, i * length, (i + 1) * length);
        }
        return TokenBatch.of(windows);
    }

    /** Sums the negative log-likelihoods of the targets as logits arrive. */
    private static final class Likelihood implements Transformer.OutputConsumer {
        private final TokenBatch windows;
        private final Backend backend;
        private double sum;
        private long targets;

        Likelihood(TokenBatch windows, Backend backend) {
            this.windows = windows;
            this.backend = backend;
        }

        @Override
        public void rows(long first, View logits) {
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment host = arena.allocate(logits.bytes(), Float.BYTES);
                backend.copyOut(logits, host);
                for (long row = 0; row < logits.rows(); row++) {
                    int token = Math.toIntExact(first + row);
                    if (token % windows.length() != windows.length() - 1) {
                        double surprise = surprise(host, row * logits.cols(), logits.cols(), windows.id(token + 1));
                        if (!Double.isFinite(surprise)) {
                            throw new RunException("perplexity is not finite: the logits of window "
                                    + token / windows.length() + ", token " + token % windows.length()
                                    + " are not; inspect the model for damaged layers");
                        }
                        sum += surprise;
                        targets++;
                    }
                }
            }
        }

        private static double surprise(MemorySegment logits, long start, long vocabulary, int target) {
            float largest = Float.NEGATIVE_INFINITY;
            for (long i = start; i < start + vocabulary; i++) {
                largest = Math.max(largest, logits.getAtIndex(ValueLayout.JAVA_FLOAT, i));
            }
            double total = 0;
            for (long i = start; i < start + vocabulary; i++) {
                total += Math.exp((double) logits.getAtIndex(ValueLayout.JAVA_FLOAT, i) - largest);
            }
            return Math.log(total) + largest - logits.getAtIndex(ValueLayout.JAVA_FLOAT, start + target);
        }

        double perplexity() {
            return Math.exp(sum / targets);
        }
    }
}

package org.sentei.method;

import java.lang.foreign.MemorySegment;
import java.util.Random;
import org.sentei.kernel.Attention;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;

/** Small random layers of attention, and what they read. */
final class AttentionLayers {
    static final int WIDTH = 12;

    private AttentionLayers() {}

    /** Which of its possible parts a layer has. */
    record Form(
            int heads,
            int keyHeads,
            int headSize,
            int length,
            boolean causal,
            int window,
            boolean bias,
            boolean rotary,
            boolean norm) {}

    static AttentionLoss.Layer layer(Form form, double turn, Scope scope) {
        Random random = new Random(5);
        View cosine = null;
        View sine = null;
        if (form.rotary) {
            int half = form.headSize / 2;
            float[] cosines = new float[form.length * half];
            float[] sines = new float[cosines.length];
            for (int i = 0; i < cosines.length; i++) {
                int position = i / half;
                double angle = turn * position / (1 + i % half);
                cosines[i] = (float) Math.cos(angle);
                sines[i] = (float) Math.sin(angle);
            }
            cosine = upload(cosines, form.length, half, scope);
            sine = upload(sines, form.length, half, scope);
        }
        return new AttentionLoss.Layer(
                projection(form, form.heads, random, scope),
                projection(form, form.keyHeads, random, scope),
                cosine,
                sine,
                new Attention.Geometry(
                        form.heads, form.keyHeads, form.headSize, form.length, 0.6f, form.causal, form.window));
    }

    private static AttentionLoss.Projection projection(Form form, int heads, Random random, Scope scope) {
        int rows = heads * form.headSize;
        View gain = null;
        View weight = normal(random, rows, WIDTH, scope);
        View bias = form.bias ? normal(random, 1, rows, scope) : null;
        if (form.norm) {
            gain = normal(random, 1, form.headSize, scope);
        }
        return new AttentionLoss.Projection(weight, bias, gain, 1e-6f);
    }

    /** Features that share factors, so that what one weight does another can do. */
    static View inputs(Form form, int windows, int seed, Scope scope) {
        Random shared = new Random(3);
        double[] shares = shared.doubles(2 * WIDTH, -1, 1).toArray();
        Random random = new Random(seed);
        float[] x = new float[windows * form.length * WIDTH];
        for (int token = 0; token < windows * form.length; token++) {
            double first = random.nextGaussian();
            double second = random.nextGaussian();
            for (int j = 0; j < WIDTH; j++) {
                x[token * WIDTH + j] =
                        (float) (0.5 * random.nextGaussian() + first * shares[j] + second * shares[WIDTH + j]);
            }
        }
        return upload(x, (long) windows * form.length, WIDTH, scope);
    }

    static View normal(Random random, long rows, long cols, Scope scope) {
        float[] values = new float[Math.toIntExact(rows * cols)];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) (0.4 * random.nextGaussian());
        }
        return upload(values, rows, cols, scope);
    }

    static View upload(float[] values, long rows, long cols, Scope scope) {
        View view = scope.matrix(rows, cols);
        scope.backend().copyIn(MemorySegment.ofArray(values), view);
        return view;
    }

    static float[] host(View view, Scope scope) {
        float[] values = new float[Math.toIntExact(view.elements())];
        scope.backend().copyOut(view, MemorySegment.ofArray(values));
        return values;
    }
}

/* Runs every kernel on odd shapes, on every tier of this machine, against plain C loops; operands stand between guard
 * bytes and in strided rows. Built with AddressSanitizer and UndefinedBehaviorSanitizer (make test).
 *
 * Widths reach every path: below one vector, whole vectors, tails, several mask words. Integers must agree exactly,
 * floating-point results within a few roundings. The finer comparison with the reference is the Java side's. */
#include "../include/sentei.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64, ROWS = 9, WIDEST = 129 };

static const int widths[] = {1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, WIDEST};
enum { WIDTHS = sizeof widths / sizeof widths[0] };

static const char *isa = "";
static int failures;

#define EXPECT(condition, ...) \
    do { \
        if (!(condition) && ++failures < 50) { \
            printf("%s: line %d: %s: ", isa, __LINE__, #condition); \
            printf(__VA_ARGS__); \
            printf("\n"); \
        } \
    } while (0)

#define OK(call) EXPECT((call) == SENTEI_OK, "unexpected status")

static uint64_t random_state = 1;

static uint32_t random_bits(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

static float random_float(void) { return (float)random_bits() / 1073741824.0f - 1.0f; }

/* Elements of one type between guard bytes. */
struct block {
    unsigned char *base;
    void *data;
    size_t bytes;
};

static struct block make(int elements, size_t size) {
    struct block b;
    b.bytes = (size_t)elements * size;
    b.base = malloc(b.bytes + 2 * GUARD);
    if (b.base == NULL) {
        abort();
    }
    memset(b.base, 0xa5, b.bytes + 2 * GUARD);
    b.data = b.base + GUARD;
    return b;
}

static void release(struct block b) {
    for (size_t i = 0; i < GUARD; i++) {
        EXPECT(b.base[i] == 0xa5 && b.base[GUARD + b.bytes + i] == 0xa5, "guard byte %zu was written", i);
    }
    free(b.base);
}

static struct block random_matrix(int elements) {
    struct block b = make(elements, sizeof(float));
    for (int i = 0; i < elements; i++) {
        ((float *)b.data)[i] = random_float();
    }
    return b;
}

static int near(double actual, double expected, double tolerance) {
    return fabs(actual - expected) <= tolerance * (1 + fabs(expected));
}

static int32_t key(float weight, float scale) {
    float score = fabsf(weight) * scale;
    int32_t bits;
    memcpy(&bits, &score, sizeof bits);
    bits &= 0x7fffffff;
    return bits > 0x7f800000 ? 0x7fffffff : bits;
}

static void test_activate(int cols) {
    const int stride = cols + 3;
    struct block x = random_matrix(ROWS * stride), m = random_matrix(ROWS * stride), y = make(ROWS * stride, 4);
    float *xs = x.data, *ms = m.data, *ys = y.data;
    for (int function = SENTEI_RELU; function <= SENTEI_SILU; function++) {
        const float *by = function % 2 ? ms : NULL;
        OK(sentei_activate_f32(function, xs, stride, by, stride, ys, stride, cols, 1, ROWS));
        for (int i = stride; i < ROWS * stride; i++) {
            double v = xs[i], e = 0;
            switch (function) {
                case SENTEI_RELU: e = v > 0 ? v : 0; break;
                case SENTEI_GELU: e = v * 0.5 * erfc(-v / sqrt(2)); break;
                case SENTEI_GELU_TANH:
                    e = 0.5 * v * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (v + 0.044715 * v * v * v)));
                    break;
                default: e = v / (1 + exp(-v)); break;
            }
            if (i % stride < cols) {
                EXPECT(near(ys[i], by ? e * by[i] : e, 1e-6), "function %d of %g", function, v);
            }
        }
    }
    EXPECT(
        sentei_activate_f32(4, xs, stride, NULL, 0, ys, stride, cols, 0, 1) == SENTEI_BAD_ARGUMENT, "unknown function");
    release(x), release(m), release(y);
}

static void test_apply_mask(int cols) {
    const int stride = cols + 1, words = (cols + 31) / 32;
    struct block w = random_matrix(ROWS * stride), mean = random_matrix(cols), bias = random_matrix(ROWS);
    struct block mask = make(ROWS * words, 4);
    float *ws = w.data, *means = mean.data, *biases = bias.data;
    uint32_t *bits = mask.data;
    float expected[ROWS][WIDEST];
    double shift[ROWS];
    memset(bits, 0, mask.bytes);
    for (int r = 0; r < ROWS; r++) {
        shift[r] = biases[r];
        for (int c = 0; c < cols; c++) {
            const float v = ws[r * stride + c];
            const uint32_t pruned = random_bits() & 1;
            bits[r * words + c / 32] |= pruned << (c % 32);
            expected[r][c] = pruned ? 0 : v;
            shift[r] += pruned ? (double)v * (double)means[c] : 0;
        }
    }
    OK(sentei_apply_mask_f32(ws, stride, bits, words, means, biases, cols, 0, ROWS));
    for (int r = 0; r < ROWS; r++) {
        EXPECT(near(biases[r], shift[r], 1e-7), "bias %d", r);
        EXPECT(memcmp(ws + r * stride, expected[r], (size_t)cols * 4) == 0, "weights of row %d", r);
    }
    release(w), release(mean), release(bias), release(mask);
}

static void test_attention(int length, int size, int causal, int window, int padded) {
    enum { HEADS = 4, KEY_HEADS = 2, SEQUENCES = 2 };
    const int q_stride = HEADS * size + 1, k_stride = KEY_HEADS * size + 2, tokens = SEQUENCES * length;
    struct block q = random_matrix(tokens * q_stride), k = random_matrix(tokens * k_stride);
    struct block v = random_matrix(tokens * k_stride), o = make(tokens * q_stride, 4), visible = make(tokens, 4);
    float *qs = q.data, *ks = k.data, *vs = v.data, *os = o.data;
    int32_t *seen = visible.data;
    for (int t = 0; t < tokens; t++) {
        seen[t] = t < length || t % length < length / 2;
        if (!seen[t] && padded) {
            vs[t * k_stride] = NAN; /* what cannot be seen must not matter */
        }
    }
    OK(sentei_attention_f32(
        qs, q_stride, ks, k_stride, vs, k_stride, padded ? seen : NULL, length, os, q_stride, HEADS, KEY_HEADS, size,
        length, 0.5f, causal, window, 0, SEQUENCES * HEADS));
    double *p = malloc((size_t)length * sizeof(double));
    for (int t = 0; t < tokens; t++) {
        const int start = t / length * length;
        for (int h = 0; h < HEADS; h++) {
            double total = 0;
            for (int j = 0; j < length; j++) {
                double score = 0;
                for (int d = 0; d < size; d++) {
                    score += (double)qs[t * q_stride + h * size + d]
                        * (double)ks[(start + j) * k_stride + h / (HEADS / KEY_HEADS) * size + d];
                }
                const int in = (!causal || start + j <= t) && (!window || start + j > t - window)
                    && (!padded || seen[start + j]);
                p[j] = in ? exp(0.5 * score) : 0;
                total += p[j];
            }
            for (int d = 0; d < size; d++) {
                double e = 0;
                for (int j = 0; j < length; j++) {
                    const int at = (start + j) * k_stride + h / (HEADS / KEY_HEADS) * size + d;
                    e += p[j] > 0 ? p[j] * (double)vs[at] / total : 0;
                }
                EXPECT(
                    near(os[t * q_stride + h * size + d], e, 1e-5),
                    "length %d, size %d, causal %d, window %d, padded %d: token %d, head %d", length, size, causal,
                    window, padded, t, h);
            }
        }
    }
    free(p);
    release(q), release(k), release(v), release(o), release(visible);
}

/* In two parts of its queries, merged; differences of about `spread`. */
static void test_attention_residual(int length, int size, int causal, int window, int padded, float spread) {
    enum { GROUP = 2 };
    const int q_stride = GROUP * size + 1, k_stride = size + 2, cut = length < 32 ? length : 32;
    struct block q = random_matrix(length * q_stride), k = random_matrix(length * k_stride);
    struct block dq = random_matrix(length * q_stride), dk = random_matrix(length * k_stride);
    struct block gq = make(length * q_stride, 4), gk = make(length * k_stride, 4);
    struct block visible = make(length, 4), partial = make(2 * length * size, 4);
    float *qs = q.data, *ks = k.data, *dqs = dq.data, *dks = dk.data, *gqs = gq.data, *gks = gk.data;
    float *parts = partial.data;
    int32_t *seen = visible.data;
    for (int i = 0; i < length * q_stride; i++) {
        dqs[i] *= spread;
    }
    for (int i = 0; i < length * k_stride; i++) {
        dks[i] *= spread;
    }
    for (int t = 0; t < length; t++) {
        seen[t] = t < (length + 1) / 2;
        if (!seen[t] && padded) {
            ks[t * k_stride] = NAN; /* what cannot be seen must not matter */
            dqs[t * q_stride] = INFINITY;
        }
    }
    double losses[2][GROUP];
    for (int part = 0; part < 2; part++) {
        OK(sentei_attention_residual_f32(
            qs, q_stride, ks, k_stride, dqs, q_stride, dks, k_stride, padded ? seen : NULL, losses[part], gqs, q_stride,
            parts + part * length * size, size, GROUP, size, length, 0.5f, causal, window, part ? cut : 0,
            part ? length : cut));
    }
    OK(sentei_attention_residual_merge_f32(parts, 2, length * size, gks, k_stride, size, 0, length));
    double *dense = malloc((size_t)length * sizeof(double)), *pruned = malloc((size_t)length * sizeof(double));
    double *key_gradient = calloc((size_t)(length * size), sizeof(double));
    for (int h = 0; h < GROUP; h++) {
        double loss = 0;
        for (int t = 0; t < length; t++) {
            double dense_total = 0, pruned_total = 0, mean = 0;
            for (int j = 0; j < length; j++) {
                const int in = (!causal || j <= t) && (!window || j > t - window) && (!padded || (seen[j] && seen[t]));
                double s = 0, moved = 0;
                for (int d = 0; d < size; d++) {
                    const double a = (double)qs[t * q_stride + h * size + d], b = (double)ks[j * k_stride + d];
                    s += a * b;
                    moved += (a + (double)dqs[t * q_stride + h * size + d]) * (b + (double)dks[j * k_stride + d]);
                }
                dense[j] = in ? exp(0.5 * s) : 0;
                pruned[j] = in ? exp(0.5 * moved) : 0;
                dense_total += dense[j];
                pruned_total += pruned[j];
            }
            for (int j = 0; j < length; j++) {
                dense[j] = dense[j] > 0 ? dense[j] / dense_total : 0;
                pruned[j] = pruned[j] > 0 ? pruned[j] / pruned_total : 0;
                loss += 0.5 * (pruned[j] - dense[j]) * (pruned[j] - dense[j]);
                mean += pruned[j] * (pruned[j] - dense[j]);
            }
            for (int d = 0; d < size; d++) {
                double e = 0;
                for (int j = 0; j < length; j++) {
                    if (pruned[j] > 0) {
                        const double slope = 0.5 * pruned[j] * (pruned[j] - dense[j] - mean);
                        e += slope * ((double)ks[j * k_stride + d] + (double)dks[j * k_stride + d]);
                        const int at = t * q_stride + h * size + d;
                        key_gradient[j * size + d] += slope * ((double)qs[at] + (double)dqs[at]);
                    }
                }
                EXPECT(
                    fabs(gqs[t * q_stride + h * size + d] - e) <= 2e-5 * (double)spread,
                    "length %d, size %d, causal %d, window %d, padded %d: query %d, head %d", length, size, causal,
                    window, padded, t, h);
            }
        }
        EXPECT(
            fabs(losses[0][h] + (cut < length ? losses[1][h] : 0) - loss) <= 1e-4 * loss, "loss %g, expected %g",
            losses[0][h] + losses[1][h], loss);
    }
    for (int i = 0; i < length * size; i++) {
        EXPECT(
            fabs(gks[i / size * k_stride + i % size] - key_gradient[i]) <= 5e-5 * (double)spread,
            "length %d, size %d, causal %d, window %d, padded %d: key %d", length, size, causal, window, padded,
            i / size);
    }
    free(dense), free(pruned), free(key_gradient);
    release(q), release(k), release(dq), release(dk), release(gq), release(gk), release(visible), release(partial);
}

static void test_masks(int cols) {
    const int stride = cols + 3, words = (cols + 31) / 32 + 1;
    struct block w = random_matrix(ROWS * stride), g = random_matrix(ROWS * stride), m = random_matrix(ROWS * stride);
    struct block f = random_matrix(ROWS * stride), v = random_matrix(ROWS * stride), o = make(ROWS * stride, 4);
    struct block scores = random_matrix(ROWS * stride), mask = make(ROWS * words, 4);
    float *ws = w.data, *gs = g.data, *ms = m.data, *fs = f.data, *vs = v.data, *os = o.data, *ss = scores.data;
    uint32_t *bits = mask.data;
    for (int i = 0; i < ROWS * words; i++) {
        bits[i] = random_bits();
    }
    gs[0] = NAN;
    gs[stride + cols - 1] = INFINITY;
    ws[stride + cols - 1] = 1;
    int64_t invalid = -1;
    float before[ROWS * (WIDEST + 3)], scores_before[ROWS * (WIDEST + 3)], f_before[ROWS * (WIDEST + 3)];
    float v_before[ROWS * (WIDEST + 3)];
    for (int i = 0; i < ROWS * stride; i++) {
        vs[i] = fabsf(vs[i]);
        before[i] = ms[i], scores_before[i] = ss[i], f_before[i] = fs[i], v_before[i] = vs[i];
    }
    OK(sentei_mask_step_soft_f32(ws, stride, gs, stride, ms, stride, os, stride, 0.5f, 0.1f, &invalid, cols, 0, ROWS));
    EXPECT(invalid == 2, "%d invalid gradients", (int)invalid);
    OK(sentei_mask_step_adam_f32(
        ws, stride, gs, stride, ss, stride, fs, stride, vs, stride, 0.1f, 0.9f, 0.99f, 2.0f, 3.0f, 1e-3f, &invalid, cols,
        0, ROWS));
    EXPECT(invalid == 2, "%d invalid gradients", (int)invalid);
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < cols; c++) {
            const int i = r * stride + c;
            const double slope = (double)ws[i] * (double)gs[i];
            if (!isfinite(slope)) {
                EXPECT(ms[i] == before[i] && ss[i] == scores_before[i] && fs[i] == f_before[i], "invalid");
                continue;
            }
            const double e = fmin(fmax(before[i] - 0.5 * (slope + 0.1 * before[i]), 0), 1);
            EXPECT(near(ms[i], e, 1e-6) && near(os[i], (e - 1) * (double)ws[i], 1e-6), "soft %d, %d", r, c);
            const double mean = 0.9 * f_before[i] + 0.1 * slope, square = 0.99 * v_before[i] + 0.01 * slope * slope;
            const double s = fmax(0, scores_before[i] - 0.1 * 2 * mean / (sqrt(3 * square) + 1e-3));
            EXPECT(near(fs[i], mean, 1e-6) && near(vs[i], square, 1e-6) && near(ss[i], s, 1e-5), "adam %d, %d", r, c);
        }
    }
    OK(sentei_mask_difference_f32(ws, stride, bits, words, os, stride, cols, 0, ROWS));
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < cols; c++) {
            const int pruned = bits[r * words + c / 32] >> (c % 32) & 1;
            EXPECT(os[r * stride + c] == (pruned ? -ws[r * stride + c] : 0), "difference %d, %d", r, c);
        }
    }
    release(w), release(g), release(m), release(f), release(v), release(o), release(scores), release(mask);
}

static int32_t quantize(double value, int32_t zero, int32_t low, int32_t high) {
    const double rounded = rint(fmin(fmax(value, low - zero), high - zero)) + zero;
    return (int32_t)rounded;
}

static struct block random_bytes(int elements) {
    struct block b = make(elements, 1);
    for (int i = 0; i < elements; i++) {
        ((uint8_t *)b.data)[i] = (uint8_t)random_bits();
    }
    return b;
}

static void test_int8(int cols) {
    const int stride = cols + 3;
    struct block a = random_bytes(ROWS * stride), b = random_bytes(stride), y = make(ROWS * stride, 1);
    struct block x = random_matrix(ROWS * stride), f = make(ROWS * stride, 4), table = random_bytes(256);
    struct block reals = random_matrix(256);
    uint8_t *as = a.data, *bs = b.data, *ys = y.data, *entries = table.data;
    float *xs = x.data, *fs = f.data;
    for (int product = 0; product < 2; product++) {
        OK(sentei_combine_int8_u8(
            product, as, stride, 0, 130, 0.25f, bs, stride, -128, 100, 0.5f, ROWS, ys, stride, 7, 0, 200, cols, 0, ROWS));
        for (int i = 0; i < ROWS * stride; i++) {
            const double of_a = as[i] - 130, of_b = (uint8_t)(bs[i % stride] + 128) - 100;
            const double e = product ? of_a * of_b * 0.25 : of_a * 0.25 + of_b * 0.5;
            EXPECT(i % stride >= cols || ys[i] == quantize(e, 7, 0, 200), "%g became %d", e, ys[i]);
        }
    }
    OK(sentei_quantize_f32(xs, stride, 0.0078125f, ys, stride, -3, -128, 100, cols, 0, ROWS));
    for (int i = 0; i < ROWS * stride; i++) {
        EXPECT(
            i % stride >= cols || (int8_t)ys[i] == quantize(xs[i] * 128.0, -3, -128, 100), "%g became %d", xs[i],
            (int8_t)ys[i]);
    }
    OK(sentei_lookup_u8_f32(as, stride, -128, reals.data, fs, stride, cols, 0, ROWS));
    for (int i = 0; i < ROWS * stride; i++) {
        EXPECT(i % stride >= cols || fs[i] == ((float *)reals.data)[as[i] ^ 128], "entry of %d", as[i]);
    }
    memcpy(ys, as, a.bytes);
    OK(sentei_lookup_u8_u8(ys, stride, 0, entries, ys, stride, cols, 0, ROWS));
    for (int i = 0; i < ROWS * stride; i++) {
        EXPECT(ys[i] == (i % stride < cols ? entries[as[i]] : as[i]), "entry of %d", as[i]);
    }
    release(a), release(b), release(y), release(x), release(f), release(table), release(reals);
}

/* Images of 4 x 5, two of them, under windows of 3 x 2, with `filters` a group. */
static void test_convolution(int channels, int filters, int groups, int step) {
    const struct sentei_window window = {4, 5, (4 + 3 - 3) / step + 1, (5 + 1 - 2) / step + 1, 3, 2, step, step, 1, 1, 2, 1};
    const int depthwise = channels == 1 && filters == 1, taps = 6;
    const int all_channels = channels * groups, all_filters = filters * groups;
    const int blocks = ((depthwise ? groups : filters) + 15) / 16;
    const int neighbours = depthwise ? 2 : taps * ((channels + 3) / 4), cols = neighbours * 64;
    const int rows = depthwise ? blocks : blocks * groups, pixels = 2 * window.output_height * window.output_width;
    const int x_stride = all_channels + 1, y_stride = all_filters + 2;
    struct block x = random_bytes(2 * 20 * x_stride), w = make(rows * cols, 1), bias = make(all_filters, 4);
    struct block scale = make(all_filters, 4), added = random_bytes(pixels * y_stride), y = make(pixels * y_stride, 1);
    struct block pool = make(pixels * x_stride, 1);
    uint8_t *xs = x.data, *ys = y.data, *adds = added.data, *pools = pool.data;
    int8_t *ws = w.data;
    memset(ws, 0, w.bytes);
    for (int k = 0; k < all_filters; k++) {
        ((int32_t *)bias.data)[k] = (int32_t)(random_bits() % 1000) - 500;
        ((float *)scale.data)[k] = 0.001953125f;
        for (int i = 0; i < taps * channels; i++) {
            const int of = depthwise ? k : k % filters, tap = i / channels, c = i % channels;
            const int at = depthwise ? tap / 4 * 64 + tap % 4 : (tap * ((channels + 3) / 4) + c / 4) * 64 + c % 4;
            ws[((depthwise ? 0 : k / filters * blocks) + of / 16) * cols + at + of % 16 * 4] = (int8_t)random_bits();
        }
    }
    for (int variant = 0; variant < 2; variant++) {
        const int lowest = variant ? -128 : 0;
        OK(sentei_conv2d_int8_u8(
            xs, x_stride, lowest, 30, ws, cols, bias.data, scale.data, variant ? adds : NULL, y_stride, 0, 128, 0.5f, ys,
            y_stride, 50, 10, 250, &window, all_channels, all_filters, groups, 0, rows, 0, pixels));
        OK(sentei_max_pool_int8_u8(xs, x_stride, lowest, pools, x_stride, &window, all_channels, 0, pixels));
        for (int pixel = 0; pixel < pixels; pixel++) {
            const int image = pixel / (pixels / 2), p = pixel % (pixels / 2) / window.output_width;
            const int q = pixel % window.output_width;
            for (int k = 0; k < all_filters; k++) {
                int64_t sum = ((int32_t *)bias.data)[k];
                for (int i = 0; i < taps * channels; i++) {
                    const int tap = i / channels, c = i % channels, of = depthwise ? k : k % filters;
                    const int row = p * step - 2 + tap / 2, col = q * step - 1 + tap % 2;
                    const int from = k / filters * channels + c;
                    const int inside = row >= 0 && row < 4 && col >= 0 && col < 5;
                    const int at = depthwise ? tap / 4 * 64 + tap % 4 : (tap * ((channels + 3) / 4) + c / 4) * 64 + c % 4;
                    const int weight = ws[((depthwise ? 0 : k / filters * blocks) + of / 16) * cols + at + of % 16 * 4];
                    const int value = inside ? xs[(image * 20 + row * 5 + col) * x_stride + from] ^ (lowest & 255) : 30;
                    sum += value * weight;
                }
                const double more = variant ? (adds[pixel * y_stride + k] - 128) * 0.5 : 0;
                const int e = quantize((float)sum * 0.001953125f + more, 50, 10, 250);
                EXPECT(ys[pixel * y_stride + k] == e, "pixel %d, filter %d of %d: %d", pixel, k, all_filters, e);
            }
            for (int c = 0; c < all_channels; c++) {
                int most = 0;
                for (int tap = 0; tap < taps; tap++) {
                    const int row = p * step - 2 + tap / 2, col = q * step - 1 + tap % 2;
                    if (row >= 0 && row < 4 && col >= 0 && col < 5) {
                        const int value = xs[(image * 20 + row * 5 + col) * x_stride + c] ^ (lowest & 255);
                        most = value > most ? value : most;
                    }
                }
                EXPECT(pools[pixel * x_stride + c] == (most ^ (lowest & 255)), "pixel %d, channel %d", pixel, c);
            }
        }
    }
    release(x), release(w), release(bias), release(scale), release(added), release(y), release(pool);
}

static void test_casts(int cols) {
    const int stride = cols + 2, back_stride = ROWS + 1;
    struct block f32 = random_matrix(ROWS * stride), f64 = make(ROWS * stride, 8), f16 = make(ROWS * stride, 2);
    struct block bf16 = make(ROWS * stride, 2), back = make(cols * back_stride, 4);
    float *fs = f32.data, *backs = back.data;
    double *ds = f64.data;
    OK(sentei_cast_f32_f64(fs, stride, ds, stride, cols, 0, 0, ROWS));
    OK(sentei_cast_f64_f16(ds, stride, f16.data, stride, cols, 0, 0, ROWS));
    OK(sentei_cast_f16_bf16(f16.data, stride, bf16.data, stride, cols, 0, 0, ROWS));
    OK(sentei_cast_bf16_f32(bf16.data, stride, backs, back_stride, cols, 1, 0, ROWS));
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < cols; c++) {
            const float v = fs[r * stride + c];
            EXPECT(ds[r * stride + c] == (double)v, "fp64");
            EXPECT(
                fabsf(backs[c * back_stride + r] - v) <= 0x1.2p-8f * fabsf(v) + 0x1p-24f, "%g came back as %g", (double)v,
                (double)backs[c * back_stride + r]);
        }
    }
    release(f32), release(f64), release(f16), release(bf16), release(back);
}

/* Ties to even, subnormals, overflow, infinities, NaN. */
static void test_half_precision(void) {
    static const struct {
        float value;
        uint16_t f16, bf16;
    } cases[] = {
        {1.0f, 0x3c00, 0x3f80},           {-2.0f, 0xc000, 0xc000},          {65504.0f, 0x7bff, 0x4780},
        {65519.0f, 0x7bff, 0x4780},       {65520.0f, 0x7c00, 0x4780},       {0x1p-24f, 0x0001, 0x3380},
        {0x1p-25f, 0x0000, 0x3300},       {0x1.8p-25f, 0x0001, 0x3340},     {0x1.002p0f, 0x3c00, 0x3f80},
        {0x1.006p0f, 0x3c02, 0x3f80},     {0x1.01p0f, 0x3c04, 0x3f80},      {0x1.03p0f, 0x3c0c, 0x3f82},
        {-0.0f, 0x8000, 0x8000},          {-INFINITY, 0xfc00, 0xff80},      {0x1.fffffep127f, 0x7c00, 0x7f80},
        {0x1p-14f, 0x0400, 0x3880},       {0x1.ff8p-15f, 0x03ff, 0x3880},   {0x1p-149f, 0x0000, 0x0000},
    };
    enum { CASES = sizeof cases / sizeof cases[0] };
    float in[CASES + 1], out[CASES + 1];
    uint16_t halves[CASES + 1];
    for (int i = 0; i < CASES; i++) {
        in[i] = cases[i].value;
    }
    in[CASES] = NAN;
    OK(sentei_cast_f32_f16(in, 0, halves, 0, CASES + 1, 0, 0, 1));
    for (int i = 0; i < CASES; i++) {
        EXPECT(halves[i] == cases[i].f16, "%g became fp16 %04x", (double)in[i], halves[i]);
    }
    OK(sentei_cast_f16_f32(halves, 0, out, 0, CASES + 1, 0, 0, 1));
    EXPECT(isnan(out[CASES]) && out[5] == 0x1p-24f && out[2] == 65504.0f && isinf(out[4]), "fp16 to fp32");
    OK(sentei_cast_f32_bf16(in, 0, halves, 0, CASES + 1, 0, 0, 1));
    for (int i = 0; i < CASES; i++) {
        EXPECT(halves[i] == cases[i].bf16, "%g became bf16 %04x", (double)in[i], halves[i]);
    }
    EXPECT((halves[CASES] & 0x7fff) > 0x7f80, "NaN became bf16 %04x", halves[CASES]);
}

static void test_graphs(int cols) {
    enum { NODES = 5, SOURCES = 3, EDGES = 4 };
    const int64_t starts[NODES + 1] = {0, 2, 2, 3, 4, 4}, wrong[NODES + 1] = {0, 2, 1, 3, 4, 4};
    int32_t neighbours[EDGES] = {2, 0, 1, 2};
    const float weights[EDGES] = {0.5f, -1, 2, 3};
    const int stride = cols + 1;
    struct block x = random_matrix(SOURCES * stride), y = make(NODES * stride, 4);
    const float *xs = x.data;
    float *ys = y.data;
    OK(sentei_aggregate_f32(
        starts, neighbours, weights, EDGES, xs, stride, SOURCES, ys, stride, cols, 0, NODES));
    for (int r = 0; r < NODES; r++) {
        for (int c = 0; c < cols; c++) {
            double sum = 0;
            for (int64_t e = starts[r]; e < starts[r + 1]; e++) {
                sum += (double)weights[e] * (double)xs[neighbours[e] * stride + c];
            }
            EXPECT(fabs(ys[r * stride + c] - sum) <= 1e-5, "%d, %d", r, c);
        }
    }
    EXPECT(sentei_aggregate_f32(wrong, neighbours, weights, EDGES, xs, stride, SOURCES, ys, stride, cols, 0, NODES)
            == SENTEI_BAD_ARGUMENT, "starts that fall");
    neighbours[3] = SOURCES;
    EXPECT(sentei_aggregate_f32(starts, neighbours, weights, EDGES, xs, stride, SOURCES, ys, stride, cols, 0, NODES)
            == SENTEI_BAD_ARGUMENT, "a neighbour outside");
    release(x), release(y);
}

static void test_state_counts(int units, int inner) {
    const int stride = units * inner + 1;
    struct block x = random_matrix(ROWS * stride), states = make(4 * units, 8), expected = make(4 * units, 8);
    float *xs = x.data;
    int64_t *counts = states.data, *right = expected.data;
    const float special[] = {0.0f, -0.0f, 1e-42f, -1e-42f, INFINITY, -INFINITY, NAN, 1, -1};
    for (int i = 0; i < ROWS * stride; i++) {
        if (random_bits() % 2) {
            xs[i] = special[random_bits() % (sizeof special / sizeof *special)];
        }
    }
    for (int i = 0; i < 4 * units; i++) {
        counts[i] = right[i] = i;
    }
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < units * inner; c++) {
            const float v = xs[r * stride + c];
            right[(isnan(v) ? 3 : v > 0 ? 0 : v < 0 ? 1 : 2) * units + c / inner]++;
        }
    }
    OK(sentei_state_counts_f32(xs, stride, units, inner, 0, 1, counts));
    OK(sentei_state_counts_f32(xs, stride, units, inner, 1, ROWS, counts));
    EXPECT(memcmp(counts, right, (size_t)units * 32) == 0, "states of %d units of %d", units, inner);
    release(x), release(states), release(expected);
}

static void test_band_stop(int cols) {
    const int stride = cols + 1;
    struct block v = random_matrix(ROWS * stride), w = make(ROWS * stride, 4), d = make(ROWS * stride, 4);
    const float *vs = v.data;
    float *ws = w.data, *ds = d.data;
    for (int form = 0; form < 2; form++) {
        OK(sentei_band_stop_f32(form, vs, stride, ws, stride, ds, stride, 4, 0.5f, 2, cols, 0, ROWS));
        for (int r = 0; r < ROWS; r++) {
            for (int c = 0; c < cols; c++) {
                const double x = vs[r * stride + c], h = 1e-6;
                double passed[3];
                for (int i = 0; i < 3; i++) {
                    const double at = x + (i - 1) * h;
                    passed[i] = 2 * at * (form ? tanh(2 * at * at) : 1 / (1 + exp(-4 * at * at + 0.5)));
                }
                EXPECT(fabs(ws[r * stride + c] - passed[1]) <= 1e-5, "%d, %d", r, c);
                EXPECT(fabs(ds[r * stride + c] - (passed[2] - passed[0]) / (2 * h)) <= 1e-4, "slope of %d, %d", r, c);
            }
        }
    }
    OK(sentei_band_stop_f32(0, vs, stride, ws, stride, NULL, 0, 4, 0.5f, 2, cols, 0, ROWS));
    release(v), release(w), release(d);
}

static void test_soft_histogram(int cols, int count, float bandwidth, int shares) {
    const float first = -1, spacing = 0.25f;
    const int stride = cols + 2, reach = count - 1 < (int)ceilf(20 * bandwidth) ? count - 1 : (int)ceilf(20 * bandwidth);
    struct block x = random_matrix(ROWS * stride), masses = make(count, 8), slopes = random_matrix(count);
    struct block g = make(ROWS * stride, 4);
    float *xs = x.data, *ls = slopes.data, *gs = g.data;
    double *mass = masses.data;
    int64_t outside = 3, expected_outside = 3;
    xs[stride] = NAN;
    xs[2 * stride] = -INFINITY;
    xs[0] = 40;
    memset(mass, 0, masses.bytes);
    OK(sentei_soft_histogram_f32(
        xs, stride, first, spacing, bandwidth, count, reach, shares, mass, &outside, cols, 0, ROWS * cols));
    OK(sentei_soft_histogram_gradient_f32(
        xs, stride, first, spacing, bandwidth, count, reach, shares, ls, gs, stride, cols, 0, ROWS * cols));
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < cols; c++) {
            const double v = xs[r * stride + c];
            double sum = 0, moved = 0, drift = 0, level = 0, nearest = 1e300;
            expected_outside += !(v >= first - spacing / 2 && v <= first + (count - 0.5f) * spacing);
            for (int k = 0; k < count; k++) {
                const double d = (v - (first + k * (double)spacing)) / bandwidth;
                nearest = isfinite(v) && d * d < nearest ? d * d : nearest;
            }
            for (int pass = 0; pass < 2 && isfinite(v); pass++) {
                for (int k = 0; k < count; k++) {
                    const double d = (v - (first + k * (double)spacing)) / bandwidth;
                    const double bump = exp((shares ? nearest : 0) - d * d);
                    if (pass == 0) {
                        sum += bump;
                        continue;
                    }
                    const double part = shares ? bump / sum : bump, turn = part * -2 * d / bandwidth;
                    mass[k] -= part;
                    moved += turn * ls[k];
                    drift += turn;
                    level += part * ls[k];
                }
            }
            const double gradient = shares ? moved - drift * level : moved;
            EXPECT(fabs(gs[r * stride + c] - gradient) <= 1e-4 / bandwidth, "gradient at %d, %d", r, c);
        }
    }
    EXPECT(outside == expected_outside, "%d outside, not %d", (int)outside, (int)expected_outside);
    for (int k = 0; k < count; k++) {
        EXPECT(fabs(mass[k]) <= 2e-6 * ROWS * cols, "mass %d of %d", k, count);
    }
    release(x), release(masses), release(slopes), release(g);
}

static void test_column_moments(int cols) {
    enum { TOKENS = 151, BATCH = 70 };
    const int stride = cols + 1, moments_stride = cols + 2;
    struct block x = random_matrix(TOKENS * stride), part = make(3 * cols, 8), all = make(3 * moments_stride, 8);
    float *xs = x.data;
    double *moments = all.data;
    for (int t = 0; t < TOKENS; t++) {
        xs[t * stride] += 100; /* a mean that is large against the deviation */
        if (cols > 1) {
            xs[t * stride + cols - 1] *= t % 2 ? 1e-30f : 1e25f; /* squares that leave fp32 */
        }
    }
    memset(moments, 0, all.bytes);
    for (int begin = 0; begin < TOKENS; begin += BATCH) {
        const int end = begin + BATCH < TOKENS ? begin + BATCH : TOKENS;
        OK(sentei_column_moments_f32(xs, stride, cols, begin, end, part.data));
        OK(sentei_column_moments_merge_f64(part.data, end - begin, moments, moments_stride, begin, cols));
    }
    for (int c = 0; c < cols; c++) {
        double mean = 0, m2 = 0, squares = 0;
        for (int t = 0; t < TOKENS; t++) {
            mean += (double)xs[t * stride + c] / TOKENS;
        }
        for (int t = 0; t < TOKENS; t++) {
            const double v = xs[t * stride + c];
            m2 += (v - mean) * (v - mean);
            squares += v * v;
        }
        EXPECT(fabs(moments[c] - mean) <= 1e-6 * sqrt(m2 / TOKENS), "mean %d of %d", c, cols);
        EXPECT(fabs(moments[moments_stride + c] - m2) <= 1e-5 * m2, "M2 %d of %d", c, cols);
        EXPECT(fabs(moments[2 * moments_stride + c] - squares) <= 1e-5 * squares, "squares %d of %d", c, cols);
    }
    release(x), release(part), release(all);
}

static void test_norms(int cols) {
    const int stride = cols + 2;
    struct block x = random_matrix(ROWS * stride), gain = random_matrix(cols), bias = random_matrix(cols);
    struct block layer = make(ROWS * stride, 4), rms = make(ROWS * stride, 4);
    float *xs = x.data, *gains = gain.data, *biases = bias.data, *layers = layer.data, *rmses = rms.data;
    const float epsilon = 1e-5f;
    OK(sentei_layer_norm_f32(xs, stride, gains, biases, layers, stride, epsilon, cols, 0, ROWS));
    OK(sentei_rms_norm_f32(xs, stride, gains, rmses, stride, epsilon, cols, 0, ROWS));
    struct block slope = random_matrix(ROWS * stride), gradient = make(ROWS * stride, 4);
    float *ds = slope.data, *gradients = gradient.data;
    OK(sentei_rms_norm_gradient_f32(xs, stride, gains, ds, stride, gradients, stride, epsilon, cols, 0, ROWS));
    for (int r = 0; r < ROWS; r++) {
        double square = 0, product = 0;
        for (int c = 0; c < cols; c++) {
            const double v = xs[r * stride + c];
            square += v * v / cols;
            product += v * (double)gains[c] * (double)ds[r * stride + c] / cols;
        }
        const double scale = 1 / sqrt(square + (double)epsilon);
        for (int c = 0; c < cols; c++) {
            const int i = r * stride + c;
            const double wanted = scale
                * ((double)gains[c] * (double)ds[i] - product * scale * scale * (double)xs[i]);
            EXPECT(fabs((double)gradients[i] - wanted) <= 1e-5 * (1 + fabs(wanted)), "%g, not %g", (double)gradients[i],
                wanted);
        }
    }
    release(slope), release(gradient);
    for (int r = 0; r < ROWS; r++) {
        double mean = 0, variance = 0, square = 0;
        for (int c = 0; c < cols; c++) {
            const double v = xs[r * stride + c];
            mean += v / cols;
            square += v * v / cols;
        }
        for (int c = 0; c < cols; c++) {
            const double v = xs[r * stride + c];
            variance += (v - mean) * (v - mean) / cols;
        }
        for (int c = 0; c < cols; c++) {
            const double v = xs[r * stride + c], g = gains[c];
            const double normal = (v - mean) / sqrt(variance + (double)epsilon) * g + (double)biases[c];
            EXPECT(near(layers[r * stride + c], normal, 1e-6), "layer norm of %d", cols);
            EXPECT(near(rmses[r * stride + c], v / sqrt(square + (double)epsilon) * g, 1e-6), "rms norm of %d", cols);
        }
    }
    OK(sentei_gemm_bias_f32(xs, stride, biases, cols, 0, ROWS));
    release(x), release(gain), release(bias), release(layer), release(rms);
}

static void test_sums(int cols) {
    const int stride = cols + 2;
    struct block x = random_matrix(ROWS * stride), y = random_matrix(ROWS * stride);
    struct block d = make(ROWS * cols, 4), triangle = make(cols * cols, 4), gram = make(cols * cols, 8);
    struct block sum = make(cols, 8), forms = make(ROWS * 2, 8);
    float *xs = x.data, *ys = y.data, *ds = d.data, *half = triangle.data;
    double *upper = gram.data, *total = sum.data, *form = forms.data;
    for (int i = 0; i < cols * cols; i++) {
        upper[i] = (double)random_float();
    }
    for (int c = 0; c < cols; c++) {
        total[c] = (double)random_float();
    }
    const int block = 16;
    OK(sentei_quadratic_form_upper_f64(upper, cols, half, cols, block, 0, cols / 2));
    OK(sentei_quadratic_form_upper_f64(upper, cols, half, cols, block, cols / 2, cols));
    OK(sentei_quadratic_form_difference_f32(xs, stride, ys, stride, ds, cols, 0, ROWS));
    OK(sentei_quadratic_form_f32(xs, stride, ds, total, form, 2, cols, 0, ROWS));
    for (int r = 0; r < cols; r++) {
        for (int c = r / block * block; c < cols; c++) {
            const double expected = c < r ? 0 : upper[r * cols + c] / (c == r ? 2 : 1);
            EXPECT(half[r * cols + c] == (float)expected, "upper triangle at %d, %d", r, c);
        }
    }
    for (int r = 0; r < ROWS; r++) {
        double square = 0, linear = 0, scale = 1;
        for (int c = 0; c < cols; c++) {
            const double v = xs[r * stride + c], difference = (double)(xs[r * stride + c] - ys[r * stride + c]);
            square += 2 * v * difference;
            linear += v * total[c];
            scale += 2 * fabs(v * difference) + fabs(v * total[c]);
        }
        EXPECT(!(fabs(form[2 * r] - square) > 1e-12 * scale), "quadratic form of %d", cols);
        EXPECT(!(fabs(form[2 * r + 1] - linear) > 1e-12 * scale), "linear form of %d", cols);
    }

    int64_t counts[3] = {10, 20, 30};
    xs[0] = -0.0f;
    xs[stride] = NAN;
    xs[2 * stride + cols - 1] = -INFINITY;
    OK(sentei_count_values_f32(xs, stride, cols, 0, ROWS, counts));
    EXPECT(counts[0] == 11 && counts[1] == 21 && counts[2] == 31, "counts of %d", cols);

    int32_t ids[ROWS];
    for (int r = 0; r < ROWS; r++) {
        ids[r] = (int32_t)(random_bits() % ROWS);
    }
    OK(sentei_embedding_f32(xs, stride, ROWS, ids, ys, stride, cols, 0, 0, ROWS));
    for (int r = 0; r < ROWS; r++) {
        EXPECT(memcmp(ys + r * stride, xs + ids[r] * stride, (size_t)cols * 4) == 0, "embedding");
    }
    const int32_t outside[] = {0, ROWS}, negative[] = {-1};
    EXPECT(
        sentei_embedding_f32(xs, stride, ROWS, outside, ys, stride, cols, 1, 0, 2) == SENTEI_BAD_ARGUMENT
            && sentei_embedding_f32(xs, stride, ROWS, negative, ys, stride, cols, 0, 0, 1) == SENTEI_BAD_ARGUMENT,
        "ids outside the table");
    release(x), release(y), release(d), release(triangle), release(gram), release(sum), release(forms);
}

/* Exactly this much memory, so that the sanitizer sees a read behind its end. */
static void *exactly(const void *data, size_t bytes) {
    void *copy = malloc(bytes);
    if (copy == NULL && bytes != 0) {
        abort();
    }
    if (bytes != 0) {
        memcpy(copy, data, bytes);
    }
    return copy;
}

/* Dense and sparse products with a few vectors; one in `sparsity` weights is kept. */
static void test_gemv(int cols, int batch, unsigned sparsity) {
    enum { BATCH = 9 };
    const int row_bytes = (cols + 7) / 8;
    static float dense[ROWS * WIDEST], kept[ROWS * WIDEST], input[BATCH * WIDEST];
    static uint16_t dense_halves[ROWS * WIDEST], kept_halves[ROWS * WIDEST];
    uint8_t bits[ROWS * (WIDEST / 8 + 1)] = {0};
    int64_t starts[ROWS + 1] = {0};
    float bias[ROWS];
    int64_t count = 0;
    for (int r = 0; r < ROWS; r++) {
        bias[r] = random_float();
        for (int c = 0; c < cols; c++) {
            const int at = r * cols + c;
            const uint32_t is_kept = random_bits() % sparsity == 0;
            const float value = is_kept ? random_float() : 0;
            uint32_t word;
            memcpy(&word, &value, sizeof word);
            word &= 0xffff0000u; /* exact as bf16 */
            memcpy(&dense[at], &word, sizeof word);
            dense_halves[at] = (uint16_t)(word >> 16);
            bits[r * row_bytes + c / 8] |= (uint8_t)(is_kept << (c % 8));
            kept[count] = dense[at];
            kept_halves[count] = dense_halves[at];
            count += is_kept;
        }
        starts[r + 1] = count;
    }
    for (int i = 0; i < batch * cols; i++) {
        input[i] = random_float();
    }
    float *w32 = exactly(dense, (size_t)(ROWS * cols) * 4), *v32 = exactly(kept, (size_t)count * 4);
    uint16_t *w16 = exactly(dense_halves, (size_t)(ROWS * cols) * 2), *v16 = exactly(kept_halves, (size_t)count * 2);
    uint8_t *mask = exactly(bits, (size_t)(ROWS * row_bytes));
    float *x = exactly(input, (size_t)(batch * cols) * 4);
    for (int kind = 0; kind < 4; kind++) {
        struct block y = make(batch * (ROWS + 1), 4);
        float *ys = y.data;
        /* Rows 0 and 1 apart from the others: ranges change nothing. */
        for (int64_t from = 0, to = 2; from < ROWS; from = to, to = ROWS) {
            switch (kind) {
                case 0: OK(sentei_gemv_f32(w32, cols, x, cols, batch, bias, ys, ROWS + 1, cols, from, to)); break;
                case 1: OK(sentei_gemv_bf16(w16, cols, x, cols, batch, bias, ys, ROWS + 1, cols, from, to)); break;
                case 2:
                    OK(sentei_sparse_gemv_f32(
                        v32, count, mask, row_bytes, starts, x, cols, batch, bias, ys, ROWS + 1, cols, from, to));
                    break;
                default:
                    OK(sentei_sparse_gemv_bf16(
                        v16, count, mask, row_bytes, starts, x, cols, batch, bias, ys, ROWS + 1, cols, from, to));
                    break;
            }
        }
        for (int b = 0; b < batch; b++) {
            for (int r = 0; r < ROWS; r++) {
                double e = bias[r];
                for (int c = 0; c < cols; c++) {
                    e += (double)dense[r * cols + c] * (double)input[b * cols + c];
                }
                EXPECT(near(ys[b * (ROWS + 1) + r], e, 1e-5), "kind %d, %d columns, vector %d of %d", kind, cols, b, batch);
            }
        }
        release(y);
    }
    /* Whatever mask and starts say, nothing outside is read. */
    float y[BATCH * ROWS];
    for (int lie = 0; lie < 5; lie++) {
        int64_t lies[ROWS + 1];
        uint8_t *all = exactly(mask, (size_t)(ROWS * row_bytes));
        memcpy(lies, starts, sizeof lies);
        switch (lie) {
            case 0: lies[ROWS - 1] = -1; break;
            case 1: lies[3] = INT64_MAX; break;
            case 2: lies[0] = count + 1; break;
            case 3: lies[ROWS] = INT64_MIN; break;
            default: memset(all, 0xff, (size_t)(ROWS * row_bytes)); break;
        }
        const int wrong = lie < 4 || count != (int64_t)ROWS * cols;
        EXPECT(
            sentei_sparse_gemv_bf16(v16, count, all, row_bytes, lies, x, cols, batch, NULL, y, ROWS, cols, 0, ROWS)
                == (wrong ? SENTEI_BAD_ARGUMENT : SENTEI_OK),
            "lie %d was believed", lie);
        EXPECT(
            sentei_sparse_gemv_f32(v32, count, all, row_bytes, lies, x, cols, batch, NULL, y, ROWS, cols, 0, ROWS)
                == (wrong ? SENTEI_BAD_ARGUMENT : SENTEI_OK),
            "lie %d was believed", lie);
        free(all);
    }
    free(w32), free(v32), free(w16), free(v16), free(mask), free(x);
}

static void test_gram(int cols) {
    const int stride = cols + 2;
    struct block product = random_matrix(cols * stride), sum = make(cols * stride, 8);
    float *ps = product.data;
    double *sums = sum.data;
    for (int diagonal = 0; diagonal < 2; diagonal++) {
        for (int i = 0; i < cols * stride; i++) {
            sums[i] = i;
        }
        OK(sentei_gram_add_f32(ps, stride, sums, stride, diagonal, cols, 0, cols));
        for (int i = 0; i < cols * stride; i++) {
            const int row = i / stride, col = i % stride;
            const int added = col < cols && (!diagonal || col >= row);
            EXPECT(sums[i] == (double)i + (added ? (double)ps[i] : 0), "gram at %d, %d", row, col);
        }
    }
    release(product), release(sum);
}

static void test_inverse_cholesky(int size) {
    const int stride = size + 1;
    struct block gram = make(size * stride, 8), reversed = make(size * size, 8), factor = make(size * stride, 4);
    double *gs = gram.data, *rs = reversed.data;
    float *fs = factor.data;
    for (int i = 0; i < size * stride; i++) {
        gs[i] = i % 7 == 0 ? 0 : i;
    }
    OK(sentei_inverse_cholesky_load_f64(gs, stride, 0.5, rs, size, 0, size));
    OK(sentei_inverse_cholesky_store_f32(rs, fs, stride, size, 0, size));
    for (int i = 0; i < size; i++) {
        for (int j = 0; j < size; j++) {
            const double g = gs[i * stride + j];
            const double expected = j < i ? 0 : j > i ? g : (g == 0 ? 1 : g) + 0.5;
            EXPECT(fs[i * stride + j] == (float)expected, "inverse_cholesky at %d, %d", i, j);
        }
    }
    release(gram), release(reversed), release(factor);
}

static void test_rotary(int half) {
    enum { HEADS = 3, LENGTH = 5, TOKENS = 10 };
    const int stride = HEADS * 2 * half + 1;
    struct block x = random_matrix(TOKENS * stride), before = make(TOKENS * stride, 4);
    struct block cosine = random_matrix(LENGTH * half), sine = random_matrix(LENGTH * half);
    float *xs = x.data, *old = before.data, *cs = cosine.data, *ss = sine.data;
    memcpy(old, xs, x.bytes);
    OK(sentei_rotary_f32(xs, stride, cs, half, ss, half, LENGTH, HEADS, half, 0, TOKENS));
    for (int t = 0; t < TOKENS; t++) {
        for (int h = 0; h < HEADS; h++) {
            for (int j = 0; j < half; j++) {
                const int low = t * stride + h * 2 * half + j, high = low + half, table = t % LENGTH * half + j;
                const double a = old[low], b = old[high], c = cs[table], s = ss[table];
                EXPECT(near(xs[low], a * c - b * s, 1e-6) && near(xs[high], b * c + a * s, 1e-6), "rotary");
            }
        }
    }
    release(x), release(before), release(cosine), release(sine);
}

/* Whether a stable ascending sort puts keys[index] among the first `prune`: its rank by counting. */
static int is_pruned(const int32_t *keys, int count, int index, int64_t prune) {
    int64_t rank = 0;
    for (int i = 0; i < count; i++) {
        rank += keys[i] < keys[index] || (keys[i] == keys[index] && i < index);
    }
    return rank < prune;
}

enum { PROFILES = 6 };

static float score_of(int profile) {
    switch (profile) {
        case 0: return random_float();
        case 1: return 1;
        case 2: return (float)(random_bits() % 4) - 2;
        case 3: return random_bits() % 3 ? random_float() : NAN;
        case 4: return random_float() * 1e-40f;
        default: return random_bits() % 16 ? random_float() : random_float() * 1e38f;
    }
}

static void expect_bit(const uint32_t *row, int column, int expected, const char *what, int profile, int cols) {
    EXPECT(
        (int)(row[column / 32] >> (column % 32) & 1) == expected, "%s, profile %d: column %d of %d", what, profile,
        column, cols);
}

static void test_selections(int cols, int profile) {
    const int stride = cols + 1, words = (cols + 31) / 32, mask_stride = words + 1;
    struct block w = make(ROWS * stride, 4), scale = make(cols, 4), mask = make(ROWS * mask_stride, 4);
    struct block high = make(1 << 16, 8), low = make(1 << 15, 8);
    float *ws = w.data, *scales = scale.data;
    uint32_t *bits = mask.data;
    int64_t *highs = high.data, *lows = low.data;
    int32_t keys[ROWS][WIDEST];
    const float *by = profile % 2 ? scales : NULL;
    for (int c = 0; c < cols; c++) {
        scales[c] = fabsf(random_float());
    }
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < cols; c++) {
            ws[r * stride + c] = score_of(profile);
            keys[r][c] = key(ws[r * stride + c], by ? by[c] : 1);
        }
    }
    memset(bits, 0xff, mask.bytes);
    const int prunes[] = {0, 1, cols / 2, cols - 1, cols};
    for (int p = 0; p < 5; p++) {
        OK(sentei_score_select_row_f32(ws, stride, by, bits, mask_stride, prunes[p], cols, 0, ROWS));
        for (int r = 0; r < ROWS; r++) {
            for (int c = 0; c < 32 * words; c++) {
                expect_bit(
                    bits + r * mask_stride, c, c < cols && is_pruned(keys[r], cols, c, prunes[p]), "row", profile, cols);
            }
        }
    }
    for (int size = 1; size <= cols; size++) {
        if (cols % size != 0) {
            continue;
        }
        const int prune = (size + 1) / 2;
        OK(sentei_score_select_groups_f32(ws, stride, by, bits, mask_stride, prune, size, cols, 0, ROWS));
        for (int r = 0; r < ROWS; r++) {
            for (int c = 0; c < 32 * words; c++) {
                expect_bit(
                    bits + r * mask_stride, c,
                    c < cols && is_pruned(keys[r] + c / size * size, size, c % size, prune), "groups", profile, cols);
            }
        }
    }
    const int32_t cut = keys[ROWS / 2][cols / 2];
    int64_t counted = -1, ties = cols / 2 + 1;
    OK(sentei_score_select_ties_f32(ws, stride, by, cut, &counted, cols, 0, ROWS));
    OK(sentei_score_select_cut_f32(ws, stride, by, bits, mask_stride, cut, ties, cols, 0, ROWS));
    memset(highs, 0, high.bytes);
    memset(lows, 0, low.bytes);
    OK(sentei_score_histogram_f32(ws, stride, by, -1, highs, cols, 0, ROWS));
    OK(sentei_score_histogram_f32(ws, stride, by, cut >> 15, lows, cols, 0, ROWS));
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < cols; c++) {
            const int32_t k = keys[r][c];
            counted -= k == cut;
            expect_bit(bits + r * mask_stride, c, k < cut || (k == cut && ties-- > 0), "cut", profile, cols);
            highs[k >> 15]--;
            lows[k & 0x7fff] -= k >> 15 == cut >> 15;
        }
    }
    EXPECT(counted == 0, "ties");
    for (int i = 0; i < 1 << 16; i++) {
        EXPECT(highs[i] == 0 && lows[i & 0x7fff] == 0, "histogram bin %d", i);
    }
    release(w), release(scale), release(mask), release(high), release(low);
}

/* size 0: the mask is given. */
static void test_obs_sweep(int cols, int size) {
    const int stride = cols + 2, words = (cols + 31) / 32, prune = size / 2;
    struct block w = random_matrix(ROWS * stride), factor = random_matrix(cols * stride), scale = random_matrix(cols);
    struct block mask = make(ROWS * words, 4), errors = make(ROWS * stride, 4);
    float *ws = w.data, *us = factor.data, *scales = scale.data, *es = errors.data;
    uint32_t *bits = mask.data;
    float v[ROWS][WIDEST];
    for (int i = 0; i < ROWS * words; i++) {
        bits[i] = random_bits() << 1 ^ random_bits();
    }
    for (int c = 0; c < cols; c++) {
        us[c * stride + c] = 1 + fabsf(us[c * stride + c]);
        for (int r = 0; r < ROWS; r++) {
            v[r][c] = ws[r * stride + c];
        }
    }
    struct block given = make(ROWS * words, 4);
    memcpy(given.data, bits, mask.bytes);
    OK(sentei_obs_sweep_f32(ws, stride, us, stride, bits, words, es, stride, scales, prune, size, cols, 0, ROWS));
    for (int r = 0; r < ROWS; r++) {
        for (int j = 0; j < cols; j++) {
            if (size > 0 && j % size == 0) {
                int32_t keys[WIDEST];
                for (int c = 0; c < size; c++) {
                    keys[c] = key(v[r][j + c], scales[j + c]);
                }
                for (int c = 0; c < size; c++) {
                    expect_bit(bits + r * words, j + c, is_pruned(keys, size, c, prune), "obs_sweep", 0, cols);
                }
            }
            volatile float error = 0; /* no contraction here either */
            if (bits[r * words + j / 32] >> (j % 32) & 1) {
                error = v[r][j] / us[j * stride + j];
                v[r][j] = 0;
                for (int k = j + 1; k < cols; k++) {
                    volatile float change = error * us[j * stride + k];
                    v[r][k] -= change;
                }
                error = -error;
            }
            EXPECT(es[r * stride + j] == error, "error %d, %d of %d", r, j, cols);
        }
        EXPECT(memcmp(ws + r * stride, v[r], (size_t)cols * 4) == 0, "weights of row %d, groups of %d", r, size);
    }
    EXPECT(size > 0 || memcmp(given.data, bits, mask.bytes) == 0, "a given mask was changed");
    release(w), release(factor), release(scale), release(mask), release(errors), release(given);
}

static void test_probes(void) {
    enum { COUNT = 1003 };
    struct block x = random_matrix(COUNT), y = make(COUNT, 4);
    const float *xs = x.data;
    float *ys = y.data, total = NAN;
    double expected = 0;
    for (int i = 3; i < COUNT; i++) {
        expected += (double)xs[i];
    }
    OK(sentei_probe_read_f32(xs, 3, COUNT, &total));
    EXPECT(near(total, expected, 1e-4), "sum of what the probe read");
    memset(ys, 0, y.bytes);
    OK(sentei_probe_copy_f32(xs, ys, 3, COUNT));
    EXPECT(ys[2] == 0 && memcmp(ys + 3, xs + 3, (COUNT - 3) * sizeof(float)) == 0, "copy of the probe");
    int64_t operations = 0;
    total = 0.5f; /* every chain tends to 1 */
    OK(sentei_probe_fma_f32(100, &total, &operations));
    EXPECT(operations > 0 && operations % 200 == 0 && total == (float)(operations / 200), "multiply-adds of the probe");
    release(x), release(y);
}

static void test_memory(void) {
    const int64_t bytes = (1 << 22) + 8;
    char *memory = sentei_map(bytes);
    EXPECT(memory != NULL && memory[0] == 0 && memory[bytes - 1] == 0, "mapped memory");
    memory[0] = memory[bytes - 1] = 1;
    OK(sentei_unmap(memory, bytes));
    EXPECT(sentei_map(INT64_MAX / 2) == NULL, "more memory than there is");
    EXPECT(sentei_unmap((char *)0 + 1, 8) == SENTEI_BAD_ARGUMENT, "memory that was not mapped");
}

int main(void) {
    test_memory();
    EXPECT(sentei_init("avx") == SENTEI_UNKNOWN_ISA, "an unknown tier was accepted");
    EXPECT(sentei_parameters("activate_f32") != NULL && sentei_parameters("nothing") == NULL, "parameters");
    char names[64];
    snprintf(names, sizeof names, "%s", sentei_isa_names());
    for (char *name = strtok(names, ", "); name != NULL; name = strtok(NULL, ", ")) {
        isa = name;
        OK(sentei_init(name));
        if (strcmp(sentei_active_isa(), name) != 0) {
            printf("%s: this machine does not have it\n", name);
            continue;
        }
        test_half_precision();
        test_probes();
        for (int i = 0; i < WIDTHS; i++) {
            test_activate(widths[i]);
            test_apply_mask(widths[i]);
            test_masks(widths[i]);
            test_casts(widths[i]);
            test_int8(widths[i]);
            test_convolution(widths[i], 1 + 5 * i, 1, 1);
            test_convolution(1 + i % 6, widths[i], 3, 2);
            test_convolution(1, 1, widths[i], 1 + i % 2);
            test_graphs(widths[i]);
            test_state_counts(widths[i], 1);
            test_state_counts(1 + i, widths[i]);
            test_band_stop(widths[i]);
            for (int shares = 0; shares < 2; shares++) {
                test_soft_histogram(widths[i], 9, 0.25f, shares);
                test_soft_histogram(widths[i], 9, 0.1f, shares);
                test_soft_histogram(widths[i], 20, 0.7f, shares);
            }
            test_column_moments(widths[i]);
            test_norms(widths[i]);
            test_sums(widths[i]);
            test_gemv(widths[i], 1, 2);
            test_gemv(widths[i], 3, 1);
            test_gemv(widths[i], 9, 5);
            test_gram(widths[i]);
            test_inverse_cholesky(widths[i]);
            for (int size = 0; size <= widths[i]; size++) {
                if (size == 0 || widths[i] % size == 0) {
                    test_obs_sweep(widths[i], size);
                }
            }
            test_rotary(widths[i]);
            for (int profile = 0; profile < PROFILES; profile++) {
                test_selections(widths[i], profile);
            }
            for (int variant = 0; variant < 6; variant++) {
                test_attention(widths[i], 1 + 5 * i, variant % 3 > 0, variant % 3 == 2 ? 5 : 0, variant >= 3);
                test_attention_residual(
                    widths[i], 1 + 5 * i, variant % 3 > 0, variant % 3 == 2 ? 5 : 0, variant >= 3,
                    variant % 2 ? 0.01f : 0.3f);
            }
        }
        printf("%s: done\n", name);
    }
    if (failures != 0) {
        printf("%d failures\n", failures);
        return 1;
    }
    printf("all kernels passed\n");
    return 0;
}

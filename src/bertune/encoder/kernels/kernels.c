/* The element-wise half of a BERT layer on the CPU, and its attention, in a few large passes.
 *
 * Matrix products stay with PyTorch (oneDNN). What lies between them is memory traffic: here each stretch is one pass
 * that reads and writes every tensor once. Compiled for the machine at hand (see build.py), once for float32 and once,
 * with -DBFLOAT16, for bfloat16 tensors; arithmetic is float32 in both.
 *
 * Letters: T tokens (rows), H hidden size, D head size, S tokens of one sequence, Dp and Sp the same rounded up to 16.
 * Every sum runs in an order that depends on the number of threads alone, so equal runs give equal bits.
 */
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

typedef float vec __attribute__((vector_size(64), aligned(64), may_alias));
typedef float loose_vec __attribute__((vector_size(64), aligned(4), may_alias));
enum { LANES = 16 };

#ifdef BFLOAT16
typedef uint16_t elem;
static inline float up(elem x) {
    union { uint32_t bits; float value; } u = {(uint32_t)x << 16};
    return u.value;
}
static inline elem down(float x) { /* round to nearest even */
    union { float value; uint32_t bits; } u = {x};
    uint32_t rounded = (u.bits + 0x7fffu + ((u.bits >> 16) & 1u)) >> 16;
    return (elem)((u.bits & 0x7fffffffu) > 0x7f800000u ? (u.bits >> 16) | 0x40u : rounded);
}
#else
typedef float elem;
static inline float up(elem x) { return x; }
static inline elem down(float x) { return x; }
#endif

/* ---- sixteen values at a time ---- */

typedef uint32_t bits_vec __attribute__((vector_size(64), may_alias));
typedef uint16_t short_vec __attribute__((vector_size(32), aligned(2), may_alias));

static inline vec spread(float x) { return x - (vec){0}; }

/* where `mask` (all ones or zeros) holds a, else b */
static inline vec choose(bits_vec mask, vec a, vec b) { return (vec)((mask & (bits_vec)a) | (~mask & (bits_vec)b)); }

/* Of two values; the second where either is not a number. */
#ifdef __AVX512F__
static inline vec larger(vec a, vec b) { return (vec)_mm512_max_ps((__m512)a, (__m512)b); }
static inline vec smaller(vec a, vec b) { return (vec)_mm512_min_ps((__m512)a, (__m512)b); }
#else
static inline vec larger(vec a, vec b) { return choose((bits_vec)(a > b), a, b); }
static inline vec smaller(vec a, vec b) { return choose((bits_vec)(a < b), a, b); }
#endif
static inline vec within(vec x, float low, float high) { return smaller(spread(high), larger(spread(low), x)); }
static inline vec magnitude(vec x) { return (vec)((bits_vec)x & 0x7fffffffu); }

#ifdef BFLOAT16
static inline vec load(const elem *from) {
    return (vec)(__builtin_convertvector(*(const short_vec *)from, bits_vec) << 16);
}
static inline void store(elem *to, vec x) {
#ifdef __AVX512BF16__
    *(short_vec *)to = (short_vec)_mm512_cvtneps_pbh((__m512)x);
#else
    for (int i = 0; i < LANES; i++) to[i] = down(x[i]);
#endif
}
#else
static inline vec load(const elem *from) { return *(const loose_vec *)from; }
static inline void store(elem *to, vec x) { *(loose_vec *)to = x; }
#endif

static inline int64_t padded(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/* the next values of a row that has `left` more: sixteen, or fewer and zeros behind them */
static inline vec load_part(const elem *from, int64_t left) {
    if (left >= LANES) return load(from);
    vec x = {0};
    for (int64_t i = 0; i < left; i++) x[i] = up(from[i]);
    return x;
}
static inline vec load_floats(const float *from, int64_t left) {
    if (left >= LANES) return *(const loose_vec *)from;
    vec x = {0};
    for (int64_t i = 0; i < left; i++) x[i] = from[i];
    return x;
}
static inline void store_part(elem *to, vec x, int64_t left) {
    if (left >= LANES) store(to, x);
    else
        for (int64_t i = 0; i < left; i++) to[i] = down(x[i]);
}
static inline void store_floats(float *to, vec x, int64_t left) {
    if (left >= LANES) *(loose_vec *)to = x;
    else
        for (int64_t i = 0; i < left; i++) to[i] = x[i];
}

#ifdef __AVX512F__
static inline float sum_of(vec x) { return _mm512_reduce_add_ps((__m512)x); }
static inline float largest_of(vec x) { return _mm512_reduce_max_ps((__m512)x); }
#else
static inline float sum_of(vec x) {
    float sum = 0.0f;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}
static inline float largest_of(vec x) {
    float most = x[0];
    for (int i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
    return most;
}
#endif

static inline void add_floats(float *to, vec x, int64_t left) { store_floats(to, load_floats(to, left) + x, left); }

/* (16, 16) in place */
static inline __attribute__((always_inline)) void transpose(vec row[LANES]) {
#if defined(__GNUC__) && !defined(__clang__)
#define SWAP_BLOCKS(BY) /* the blocks of this size beside the diagonal change places */                                \
    {                                                                                                                  \
        bits_vec left, right;                                                                                          \
        for (uint32_t j = 0; j < LANES; j++) {                                                                         \
            left[j] = j & BY ? j - BY + LANES : j;                                                                     \
            right[j] = j & BY ? j + LANES : j + BY;                                                                    \
        }                                                                                                              \
        _Pragma("GCC unroll 16") for (int i = 0; i < LANES; i++) {                                                     \
            if (i & BY) continue;                                                                                      \
            vec upper = row[i], lower = row[i + BY];                                                                   \
            row[i] = (vec)__builtin_shuffle((bits_vec)upper, (bits_vec)lower, left);                                   \
            row[i + BY] = (vec)__builtin_shuffle((bits_vec)upper, (bits_vec)lower, right);                             \
        }                                                                                                              \
    }
    SWAP_BLOCKS(8)
    SWAP_BLOCKS(4)
    SWAP_BLOCKS(2)
    SWAP_BLOCKS(1)
#else
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < i; j++) {
            float upper = row[j][i];
            row[j][i] = row[i][j];
            row[i][j] = upper;
        }
#endif
}

/* ---- random masks: a hash of the element's index under a 64-bit seed; nothing is stored for the way back ---- */

typedef struct {
    uint32_t low, high; /* the seed */
    uint32_t threshold; /* dropped when the hash lies below it: p * 2^32; 0 = no dropout */
    float scale;        /* 1 / (1 - p) */
} dropout_t;

static inline dropout_t dropout_make(uint64_t seed, double p) {
    dropout_t d = {(uint32_t)seed, (uint32_t)(seed >> 32), (uint32_t)(p * 4294967296.0), (float)(1.0 / (1.0 - p))};
    return d;
}

/* What to multiply 16 elements from `index` on by. */
static inline vec dropout_factors(dropout_t d, uint32_t index) {
    bits_vec x = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    x = (x + index) * 0x9e3779b1u + d.low; /* lowbias32 (C. Wellons), keyed */
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= (x >> 15) ^ d.high;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return (vec)((bits_vec)(x >= d.threshold) & (bits_vec)spread(d.scale));
}

/* ---- elementary functions ---- */

static inline vec exponential(vec x) { /* relative error below 2e-7 for |x| < 87 */
    x = within(x, -87.0f, 88.0f);
    vec shifted = x * 1.44269504088896341f + 12582912.0f; /* 1.5 * 2^23: the low bits now hold the rounded quotient */
    vec n = shifted - 12582912.0f;
    vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (vec)((bits_vec)p + ((bits_vec)shifted << 23));
}

static inline vec sigmoid(vec x) { return 1.0f / (1.0f + exponential(-x)); }

#ifdef BFLOAT16
/* Where results are rounded to 8 bits of precision, odd polynomials fitted (least greatest error) on [-4.3, 4.3]. */

/* x * P(x * x), highest power first */
static inline vec odd_polynomial(vec x, const float *coefficients, int count) {
    vec square = x * x, sum = spread(coefficients[0]);
    for (int i = 1; i < count; i++) sum = sum * square + coefficients[i];
    return x * sum;
}

static inline vec gelu(vec x) { /* x * cumulative normal distribution; absolute error below 4e-5 */
    static const float fitted[] = {4.535543937e-11f, -4.531899918e-09f, 2.000921844e-07f,
                                   -5.191864408e-06f, 8.915410268e-05f, -1.084488031e-03f,
                                   9.742260230e-03f, -6.623894204e-02f, 3.988545026e-01f};
    vec half = odd_polynomial(within(x, -4.3f, 4.3f), fitted, 9);
    return x * (within(half, -0.5f, 0.5f) + 0.5f);
}

static inline vec gelu_slope(vec x) { /* absolute error below 1.1e-4 */
    static const float fitted[] = {-3.142390501e-11f, 3.321313271e-09f, -1.556161113e-07f, 4.286705487e-06f,
                                   -7.776478652e-05f, 9.860490085e-04f, -9.000281569e-03f, 5.901011746e-02f,
                                   -2.653167070e-01f, 7.977362592e-01f};
    return odd_polynomial(within(x, -4.3f, 4.3f), fitted, 10) + 0.5f;
}
#else
/* Cumulative normal distribution and e^(-x^2/2), by Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7). */
static inline vec normal_cdf(vec x, vec *density) {
    vec a = magnitude(x) * 0.70710678118654752f;
    vec t = 1.0f / (1.0f + 0.3275911f * a);
    vec e = exponential(-a * a);
    vec y = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    vec half_tail = 0.5f * y * e;
    *density = e;
    return choose((bits_vec)(x >= spread(0.0f)), 1.0f - half_tail, half_tail);
}

static inline vec gelu(vec x) {
    vec density;
    return x * normal_cdf(x, &density);
}

static inline vec gelu_slope(vec x) {
    vec density, cdf = normal_cdf(x, &density);
    return cdf + x * density * 0.39894228040143268f;
}
#endif

enum { GELU_ERF = 0, GELU_TANH = 1, RELU = 2 };

static inline __attribute__((always_inline)) vec activate(vec x, int kind) {
    if (kind == GELU_ERF) return gelu(x);
    if (kind == GELU_TANH) /* (1 + tanh(z)) / 2 = sigmoid(2 z) */
        return x * sigmoid(1.5957691216057308f * (x + 0.044715f * x * x * x));
    return choose((bits_vec)(x < spread(0.0f)), (vec){0}, x);
}

static inline __attribute__((always_inline)) vec activation_slope(vec x, int kind) {
    if (kind == GELU_ERF) return gelu_slope(x);
    if (kind == GELU_TANH) {
        vec s = sigmoid(1.5957691216057308f * (x + 0.044715f * x * x * x));
        return s + x * s * (1.0f - s) * 1.5957691216057308f * (1.0f + 0.134145f * x * x);
    }
    return choose((bits_vec)(x > spread(0.0f)), spread(1.0f), (vec){0});
}

/* ---- rows shared out among threads; column sums gathered in a fixed order ---- */

static inline void share(int64_t rows, int threads, int me, int64_t *from, int64_t *to) {
    *from = rows * me / threads;
    *to = rows * (me + 1) / threads;
}

static float *scratch(size_t floats) { return aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64); }

/* out[i] = dropout(x[i]); the same call on the gradient is its backward. */
int bertune_dropout(int threads, int64_t n, const elem *x, double p, uint64_t seed, elem *out) {
    dropout_t d = dropout_make(seed, p);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i += LANES)
        store_part(out + i, load_part(x + i, n - i) * dropout_factors(d, (uint32_t)i), n - i);
    return 0;
}

/* z = residual + dropout(x + bias); out = LayerNorm(z). z, mean and rstd are kept for the way back when z is given.
 * Here and below row_scale, where not NULL, multiplies the rows of x first: products of quantized rows lack it. */
int bertune_add_norm_forward(int threads, int64_t T, int64_t H, const elem *x, const float *row_scale, const float *bias,
                             const elem *residual, const float *gamma, const float *beta, double eps, double p,
                             uint64_t seed, elem *z, float *mean, float *rstd, elem *out) {
    dropout_t d = dropout_make(seed, p);
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        float *row = scratch((size_t)padded(H));
        int64_t from, to;
        share(T, omp_get_num_threads(), omp_get_thread_num(), &from, &to);
        if (!row) failed = 1, to = from;
        for (int64_t t = from; t < to; t++) {
            const elem *xt = x + t * H, *rt = residual + t * H;
            uint32_t base = (uint32_t)(t * H);
            float scale = row_scale ? row_scale[t] : 1.0f;
            vec sum = {0}, squares = {0};
            for (int64_t c = 0; c < H; c += LANES) {
                vec value = load_part(xt + c, H - c) * scale + load_floats(bias + c, H - c);
                if (d.threshold) value *= dropout_factors(d, base + (uint32_t)c);
                value += load_part(rt + c, H - c);
                *(vec *)(row + c) = value;
                sum += value; /* zeros behind the row's end */
            }
            float mu = sum_of(sum) / (float)H;
            int64_t whole = H - H % LANES;
            for (int64_t c = 0; c < whole; c += LANES) {
                vec apart = *(vec *)(row + c) - mu;
                squares += apart * apart;
            }
            for (int64_t c = whole; c < H; c++) squares[0] += (row[c] - mu) * (row[c] - mu);
            float r = 1.0f / sqrtf(sum_of(squares) / (float)H + (float)eps);
            for (int64_t c = 0; c < H; c += LANES) {
                vec value = *(vec *)(row + c);
                vec normal = (value - mu) * r * load_floats(gamma + c, H - c) + load_floats(beta + c, H - c);
                store_part(out + t * H + c, normal, H - c);
                if (z) store_part(z + t * H + c, value, H - c);
            }
            if (z) {
                mean[t] = mu;
                rstd[t] = r;
            }
        }
        free(row);
    }
    return failed;
}

/* From dy: dz (for the residual), dx (for x; may equal dz when p = 0), and column sums: sums[0..H) dgamma, [H..2H) dbeta,
 * [2H..3H) dbias. */
int bertune_add_norm_backward(int threads, int64_t T, int64_t H, const elem *dy, const elem *z, const float *mean,
                              const float *rstd, const float *gamma, double p, uint64_t seed, elem *dz, elem *dx,
                              float *sums) {
    dropout_t d = dropout_make(seed, p);
    float *parts = scratch((size_t)threads * 3 * H);
    if (!parts) return 1;
    memset(parts, 0, (size_t)threads * 3 * H * sizeof(float));
    int used = 1, failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        int me = omp_get_thread_num();
#pragma omp single
        used = omp_get_num_threads();
        float *dgamma = parts + (size_t)me * 3 * H, *dbeta = dgamma + H, *dbias = dbeta + H;
        float *normal = scratch((size_t)(2 * padded(H))), *scaled = normal + padded(H);
        int64_t from, to;
        share(T, used, me, &from, &to);
        if (!normal) failed = 1, to = from;
        for (int64_t t = from; t < to; t++) {
            float mu = mean[t], r = rstd[t];
            vec plain = {0}, along = {0};
            for (int64_t c = 0; c < H; c += LANES) {
                vec n = (load_part(z + t * H + c, H - c) - mu) * r, g = load_part(dy + t * H + c, H - c);
                *(vec *)(normal + c) = n;
                add_floats(dgamma + c, g * n, H - c);
                add_floats(dbeta + c, g, H - c);
                g *= load_floats(gamma + c, H - c);
                *(vec *)(scaled + c) = g;
                plain += g;
                along += g * n;
            }
            float a = sum_of(plain) / (float)H, b = sum_of(along) / (float)H;
            uint32_t base = (uint32_t)(t * H);
            for (int64_t c = 0; c < H; c += LANES) {
                vec g = r * (*(vec *)(scaled + c) - a - *(vec *)(normal + c) * b);
                store_part(dz + t * H + c, g, H - c);
                if (d.threshold) {
                    g *= dropout_factors(d, base + (uint32_t)c);
                    store_part(dx + t * H + c, g, H - c);
                }
                add_floats(dbias + c, g, H - c);
            }
        }
        free(normal);
    }
    if (!d.threshold && dx != dz) memcpy(dx, dz, (size_t)(T * H) * sizeof(elem));
    for (int64_t c = 0; c < 3 * H; c++) {
        float sum = 0.0f;
        for (int i = 0; i < used; i++) sum += parts[(size_t)i * 3 * H + c];
        sums[c] = sum;
    }
    free(parts);
    return failed;
}

/* BODY for every sixteen values from c on, with the activation's kind known to the compiler */
#define ACTIVATION_LOOP(KIND, BODY)                                                                                    \
    {                                                                                                                  \
        enum { kind = KIND };                                                                                          \
        for (int64_t c = 0; c < I; c += LANES) { BODY }                                                                \
    }
#define ACTIVATION_LOOPS(BODY)                                                                                         \
    if (activation == GELU_ERF) ACTIVATION_LOOP(GELU_ERF, BODY)                                                        \
    else if (activation == GELU_TANH) ACTIVATION_LOOP(GELU_TANH, BODY)                                                 \
    else ACTIVATION_LOOP(RELU, BODY)

/* out = activation(x + bias), rows of width I. */
int bertune_bias_activation_forward(int threads, int64_t T, int64_t I, const elem *x, const float *bias, int activation,
                                    elem *out) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < T; t++) {
        const elem *xt = x + t * I;
        elem *ot = out + t * I;
        ACTIVATION_LOOPS(vec value = load_part(xt + c, I - c) + load_floats(bias + c, I - c);
                         store_part(ot + c, activate(value, kind), I - c);)
    }
    return 0;
}

/* ---- quantization for prediction: 8 bits a value, one scale a row, 128 standing for zero ---- */

static inline void store_bytes(uint8_t *to, bits_vec x, int64_t left) { /* the lowest eight bits of each */
#ifdef __AVX512F__
    if (left >= LANES) {
        _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8((__m512i)x));
        return;
    }
#endif
    for (int64_t i = 0; i < LANES && i < left; i++) to[i] = (uint8_t)x[i];
}

/* row (n, zeros up to a multiple of 16) → q: round(row / scale) + 128, scale = largest magnitude / 127. Returns the scale. */
static inline float quantize_row(const float *row, int64_t n, uint8_t *q) {
    vec most = {0};
    for (int64_t c = 0; c < n; c += LANES) most = larger(most, magnitude(*(const vec *)(row + c)));
    float highest = largest_of(most), scale = highest > 0.0f ? highest / 127.0f : 1.0f, inverse = 1.0f / scale;
    for (int64_t c = 0; c < n; c += LANES) {
        vec rounded = *(const vec *)(row + c) * inverse + (12582912.0f + 128.0f); /* the low bits hold the integer */
        store_bytes(q + c, (bits_vec)rounded, n - c);
    }
    return scale;
}

/* Rows of x (T, H) → out (T, H) and scale (T). */
int bertune_quantize_rows(int threads, int64_t T, int64_t H, const elem *x, uint8_t *out, float *scale) {
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        float *row = scratch((size_t)padded(H));
        if (!row) failed = 1;
#pragma omp for schedule(static)
        for (int64_t t = 0; t < T; t++) {
            if (!row) continue;
            for (int64_t c = 0; c < H; c += LANES) *(vec *)(row + c) = load_part(x + t * H + c, H - c);
            scale[t] = quantize_row(row, H, out + t * H);
        }
        free(row);
    }
    return failed;
}

/* activation(x * row_scale + bias), quantized. */
int bertune_bias_activation_quantized(int threads, int64_t T, int64_t I, const elem *x, const float *row_scale,
                                      const float *bias, int activation, uint8_t *out, float *scale) {
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        float *row = scratch((size_t)padded(I));
        if (!row) failed = 1;
#pragma omp for schedule(static)
        for (int64_t t = 0; t < T; t++) {
            if (!row) continue;
            const elem *xt = x + t * I;
            float s = row_scale[t];
            ACTIVATION_LOOPS(vec value = load_part(xt + c, I - c) * s + load_floats(bias + c, I - c);
                             *(vec *)(row + c) = activate(value, kind);)
            scale[t] = quantize_row(row, I, out + t * I);
        }
        free(row);
    }
    return failed;
}

/* dx = dy * activation'(x + bias), in place of dy; dbias[0..I) its column sums. */
int bertune_bias_activation_backward(int threads, int64_t T, int64_t I, const elem *x, const float *bias, int activation,
                                     elem *dy, float *dbias) {
    float *parts = scratch((size_t)threads * I);
    if (!parts) return 1;
    memset(parts, 0, (size_t)threads * I * sizeof(float));
    int used = 1;
#pragma omp parallel num_threads(threads)
    {
        int me = omp_get_thread_num();
#pragma omp single
        used = omp_get_num_threads();
        float *sum = parts + (size_t)me * I;
        int64_t from, to;
        share(T, used, me, &from, &to);
        for (int64_t t = from; t < to; t++) {
            const elem *xt = x + t * I;
            elem *dt = dy + t * I;
            ACTIVATION_LOOPS(vec value = load_part(xt + c, I - c) + load_floats(bias + c, I - c);
                             vec g = load_part(dt + c, I - c) * activation_slope(value, kind);
                             store_part(dt + c, g, I - c); add_floats(sum + c, g, I - c);)
        }
    }
    for (int64_t c = 0; c < I; c++) {
        float total = 0.0f;
        for (int i = 0; i < used; i++) total += parts[(size_t)i * I + c];
        dbias[c] = total;
    }
    free(parts);
    return 0;
}

/* Column sums of x (T, C). */
int bertune_column_sums(int threads, int64_t T, int64_t C, const elem *x, float *sums) {
    enum { STRIP = 256 };
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t c0 = 0; c0 < C; c0 += STRIP) {
        int64_t width = C - c0 < STRIP ? C - c0 : STRIP;
        float sum[STRIP] = {0};
        for (int64_t t = 0; t < T; t++) {
            const elem *xt = x + t * C + c0;
#pragma omp simd
            for (int64_t c = 0; c < width; c++) sum[c] += up(xt[c]);
        }
        memcpy(sums + c0, sum, (size_t)width * sizeof(float));
    }
    return 0;
}

/* ---- small matrix products, operands in cache ---- */

/* C (M, N) = A (M, K) B (K, N), or += with `add`. A has any strides; rows of B and C are contiguous and padded to LANES. */
#define BLOCK(ROWS)                                                                                                    \
    static inline __attribute__((always_inline)) void block_##ROWS(                                                    \
        int64_t N, int64_t K, const float *A, int64_t am, int64_t ak, const float *B, int64_t ldb, float *C,           \
        int64_t ldc, int add) {                                                                                        \
        int64_t n = 0;                                                                                                 \
        for (; n + 2 * LANES <= N; n += 2 * LANES) {                                                                   \
            vec acc[ROWS][2];                                                                                          \
            for (int r = 0; r < ROWS; r++) {                                                                           \
                acc[r][0] = add ? *(vec *)(C + r * ldc + n) : (vec){0};                                                \
                acc[r][1] = add ? *(vec *)(C + r * ldc + n + LANES) : (vec){0};                                        \
            }                                                                                                          \
            for (int64_t k = 0; k < K; k++) {                                                                          \
                vec b0 = *(vec *)(B + k * ldb + n), b1 = *(vec *)(B + k * ldb + n + LANES);                            \
                _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++) {                                               \
                    float a = A[r * am + k * ak];                                                                      \
                    acc[r][0] += a * b0;                                                                               \
                    acc[r][1] += a * b1;                                                                               \
                }                                                                                                      \
            }                                                                                                          \
            for (int r = 0; r < ROWS; r++) {                                                                           \
                *(vec *)(C + r * ldc + n) = acc[r][0];                                                                 \
                *(vec *)(C + r * ldc + n + LANES) = acc[r][1];                                                         \
            }                                                                                                          \
        }                                                                                                              \
        for (; n < N; n += LANES) {                                                                                    \
            vec acc[ROWS];                                                                                             \
            for (int r = 0; r < ROWS; r++) acc[r] = add ? *(vec *)(C + r * ldc + n) : (vec){0};                        \
            for (int64_t k = 0; k < K; k++) {                                                                          \
                vec b = *(vec *)(B + k * ldb + n);                                                                     \
                _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++) acc[r] += A[r * am + k * ak] * b;               \
            }                                                                                                          \
            for (int r = 0; r < ROWS; r++) *(vec *)(C + r * ldc + n) = acc[r];                                         \
        }                                                                                                              \
    }
BLOCK(1)
BLOCK(2)
BLOCK(4)
BLOCK(8)

static void product(int64_t M, int64_t N, int64_t K, const float *A, int64_t am, int64_t ak, const float *B, int64_t ldb,
                    float *C, int64_t ldc, int add) {
    int64_t m = 0;
#define ROWS_OF(R)                                                                                                     \
    for (; m + R <= M; m += R) block_##R(N, K, A + m * am, am, ak, B, ldb, C + m * ldc, ldc, add);
    ROWS_OF(8)
    ROWS_OF(4)
    ROWS_OF(2)
    ROWS_OF(1)
}

/* Sixteen values of a row of qkv: times its scale, plus bias, times a factor; zeros behind the row's D. */
static inline vec gathered(const elem *row, int64_t c, int64_t D, float row_scale, const float *bias, float factor) {
    vec x = load_part(row + c, D - c) * row_scale;
    if (bias) x += load_floats(bias + c, D - c);
    return x * factor;
}

/* rows (S, D) of a column block of qkv, plus bias, times a factor → out (S, Dp) and/or its transpose (Dp, Sp), zero padded */
static inline __attribute__((always_inline)) void gather(int64_t S, int64_t D, int64_t Dp, int64_t Sp, const elem *from,
                                                         int64_t stride, const float *row_scale, const float *bias,
                                                         float factor, float *out, float *transposed) {
    for (int64_t s0 = 0; s0 < S; s0 += LANES) {
        int64_t rows = S - s0 < LANES ? S - s0 : LANES;
        for (int64_t c = 0; c < Dp; c += LANES) {
            vec block[LANES];
            for (int64_t i = 0; i < rows; i++) {
                int64_t s = s0 + i;
                __builtin_prefetch(from + s * stride + D + c); /* the next head's, which this thread gathers next */
                block[i] = gathered(from + s * stride, c, D, row_scale ? row_scale[s] : 1.0f, bias, factor);
                if (out) *(vec *)(out + s * Dp + c) = block[i];
            }
            if (!transposed) continue;
            for (int64_t i = rows; i < LANES; i++) block[i] = (vec){0};
            transpose(block);
            for (int64_t i = 0; i < LANES; i++) *(vec *)(transposed + (c + i) * Sp + s0) = block[i];
        }
    }
}

/* rows (S, Dp) times a factor of their own (row_factor) or of all → a column block of rows */
static inline void scatter(int64_t S, int64_t D, int64_t Dp, const float *from, const float *row_factor, float factor,
                           elem *to, int64_t stride) {
    for (int64_t s = 0; s < S; s++) {
        int64_t c = 0;
        float f = row_factor ? row_factor[s] : factor;
        for (; c + LANES <= D; c += LANES) store(to + s * stride + c, *(const vec *)(from + s * Dp + c) * f);
        for (; c < D; c++) to[s * stride + c] = down(from[s * Dp + c] * f);
    }
}

enum { QUERIES = 32 }; /* rows of the probability matrix held at a time */

/* Which of the last sixteen places of a row of scores are keys; the others only fill the row up. */
static inline bits_vec last_keys(int64_t S) {
    bits_vec lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (bits_vec)(lanes < (uint32_t)(S - padded(S) + LANES));
}

/* Softmax attention of every sequence over itself, for a packed or padded token axis.
 * With a stride (padded), padding rows attend too, as in the original, but nothing attends to them.
 * qkv (T, 3H) without bias, bias (3H); out (T, H); lse (T, heads): log of every softmax's denominator, or NULL. */
int bertune_attention_forward(int threads, int64_t sequences, const int64_t *starts, const int64_t *lengths,
                              int64_t longest, int64_t stride, int64_t heads, int64_t D, const elem *qkv,
                              const float *row_scale, const float *bias, double p, uint64_t seed, elem *out, float *lse) {
    int64_t H = heads * D, Dp = padded(D), widest = padded(longest);
    float scale = 1.0f / sqrtf((float)D);
    dropout_t drop = dropout_make(seed, p);
    int chunk = sequences >= 4 * threads ? (int)heads : 1; /* a thread takes all heads of a sequence where there are enough */
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        float *room = scratch((size_t)(2 * Dp * widest + QUERIES * (2 * Dp + widest)));
        if (!room) failed = 1;
#pragma omp for schedule(dynamic, chunk)
        for (int64_t task = 0; task < sequences * heads; task++) {
            if (!room) continue;
            int64_t sequence = task / heads, head = task % heads, S = lengths[sequence], Sp = padded(S);
            int64_t start = starts[sequence], R = stride ? stride : S;
            bits_vec keys = last_keys(S);
            const elem *base = qkv + start * 3 * H + head * D;
            const float *b = bias + head * D, *scales = row_scale ? row_scale + start : NULL;
            float *Kt = room, *V = Kt + Dp * widest, *Q = V + widest * Dp, *O = Q + QUERIES * Dp, *P = O + QUERIES * Dp;
            gather(S, D, Dp, Sp, base + H, 3 * H, scales, b + H, 1.0f, NULL, Kt);
            gather(S, D, Dp, Sp, base + 2 * H, 3 * H, scales, b + 2 * H, 1.0f, V, NULL);
            for (int64_t q0 = 0; q0 < R; q0 += QUERIES) {
                int64_t rows = R - q0 < QUERIES ? R - q0 : QUERIES;
                float over[QUERIES];
                gather(rows, D, Dp, 0, base + q0 * 3 * H, 3 * H, scales ? scales + q0 : NULL, b, scale, Q, NULL);
                product(rows, Sp, D, Q, Dp, 1, Kt, Sp, P, Sp, 0);
                for (int64_t r = 0; r < rows; r++) {
                    float *pr = P + r * Sp;
                    *(vec *)(pr + Sp - LANES) = choose(keys, *(vec *)(pr + Sp - LANES), spread(-1e30f));
                    vec most = *(vec *)pr, sum = {0};
                    for (int64_t c = LANES; c < Sp; c += LANES) most = larger(most, *(vec *)(pr + c));
                    float highest = largest_of(most);
                    for (int64_t c = 0; c < Sp; c += LANES) sum += *(vec *)(pr + c) = exponential(*(vec *)(pr + c) - highest);
                    float total = sum_of(sum);
                    over[r] = 1.0f / total;
                    if (drop.threshold) {
                        uint32_t index = (uint32_t)((start * heads + head * R + q0 + r) * longest);
                        for (int64_t c = 0; c < Sp; c += LANES) *(vec *)(pr + c) *= dropout_factors(drop, index + (uint32_t)c);
                    }
                    if (lse) lse[(start + q0 + r) * heads + head] = highest + logf(total);
                }
                product(rows, Dp, S, P, Sp, 1, V, Dp, O, Dp, 0);
                scatter(rows, D, Dp, O, over, 1.0f, out + (start + q0) * H + head * D, H);
            }
        }
        free(room);
    }
    return failed;
}

/* dqkv (T, 3H) from dout (T, H); the probabilities are computed again from lse. */
int bertune_attention_backward(int threads, int64_t sequences, const int64_t *starts, const int64_t *lengths,
                               int64_t longest, int64_t stride, int64_t heads, int64_t D, const elem *qkv,
                               const float *bias, double p, uint64_t seed, const elem *out, const float *lse,
                               const elem *dout, elem *dqkv) {
    int64_t H = heads * D, Dp = padded(D), widest = padded(longest);
    float scale = 1.0f / sqrtf((float)D);
    dropout_t drop = dropout_make(seed, p);
    int chunk = sequences >= 4 * threads ? (int)heads : 1;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        float *room = scratch((size_t)(5 * Dp * widest + QUERIES * (3 * Dp + 2 * widest)));
        if (!room) failed = 1;
#pragma omp for schedule(dynamic, chunk)
        for (int64_t task = 0; task < sequences * heads; task++) {
            if (!room) continue;
            int64_t sequence = task / heads, head = task % heads, S = lengths[sequence], Sp = padded(S);
            int64_t start = starts[sequence], R = stride ? stride : S;
            bits_vec keys = last_keys(S);
            const elem *base = qkv + start * 3 * H + head * D;
            elem *dbase = dqkv + start * 3 * H + head * D;
            const float *b = bias + head * D;
            float *Kt = room, *K = Kt + Dp * widest, *Vt = K + Dp * widest, *dK = Vt + Dp * widest, *dV = dK + Dp * widest;
            float *Q = dV + Dp * widest, *dO = Q + QUERIES * Dp, *dQ = dO + QUERIES * Dp;
            float *P = dQ + QUERIES * Dp, *dP = P + QUERIES * widest;
            gather(S, D, Dp, Sp, base + H, 3 * H, NULL, b + H, 1.0f, K, Kt);
            gather(S, D, Dp, Sp, base + 2 * H, 3 * H, NULL, b + 2 * H, 1.0f, NULL, Vt);
            for (int64_t q0 = 0; q0 < R; q0 += QUERIES) {
                int64_t rows = R - q0 < QUERIES ? R - q0 : QUERIES;
                gather(rows, D, Dp, 0, base + q0 * 3 * H, 3 * H, NULL, b, scale, Q, NULL);
                gather(rows, D, Dp, 0, dout + (start + q0) * H + head * D, H, NULL, NULL, 1.0f, dO, NULL);
                product(rows, Sp, D, Q, Dp, 1, Kt, Sp, P, Sp, 0);
                product(rows, Sp, D, dO, Dp, 1, Vt, Sp, dP, Sp, 0);
                for (int64_t r = 0; r < rows; r++) {
                    const elem *or = out + (start + q0 + r) * H + head * D;
                    vec products = {0};
                    float l = lse[(start + q0 + r) * heads + head];
                    for (int64_t c = 0; c < Dp; c += LANES)
                        products += gathered(or, c, D, 1.0f, NULL, 1.0f) * *(vec *)(dO + r * Dp + c);
                    float delta = sum_of(products);
                    float *pr = P + r * Sp, *dr = dP + r * Sp;
                    *(vec *)(pr + Sp - LANES) = choose(keys, *(vec *)(pr + Sp - LANES), spread(-1e30f));
                    uint32_t index = (uint32_t)((start * heads + head * R + q0 + r) * longest);
                    for (int64_t c = 0; c < Sp; c += LANES) {
                        vec probability = exponential(*(vec *)(pr + c) - l), slope = *(vec *)(dr + c);
                        vec kept = probability;
                        if (drop.threshold) {
                            vec keep = dropout_factors(drop, index + (uint32_t)c);
                            kept *= keep;
                            slope *= keep;
                        }
                        *(vec *)(pr + c) = kept;
                        *(vec *)(dr + c) = probability * (slope - delta);
                    }
                }
                product(S, Dp, rows, P, 1, Sp, dO, Dp, dV, Dp, q0 > 0);
                product(S, Dp, rows, dP, 1, Sp, Q, Dp, dK, Dp, q0 > 0);
                product(rows, Dp, S, dP, Sp, 1, K, Dp, dQ, Dp, 0);
                scatter(rows, D, Dp, dQ, NULL, scale, dbase + q0 * 3 * H, 3 * H);
            }
            scatter(S, D, Dp, dK, NULL, 1.0f, dbase + H, 3 * H);
            scatter(S, D, Dp, dV, NULL, 1.0f, dbase + 2 * H, 3 * H);
        }
        free(room);
    }
    return failed;
}

/* ---- the optimizer: one pass over weight, moments and gradient ---- */

/* Adam with decoupled weight decay on n weights (Loshchilov & Hutter; Kingma & Ba).
 * grad: n elements of the compiled type, or NULL for zero gradients; grad_scale: clipping and unscaling in one factor.
 * bias1, bias2: 1 - beta^t, or 1 without bias correction. working: the copy used in computation, or NULL. */
int bertune_adamw(int threads, int64_t n, float *weight, float *m, float *v, const elem *grad, elem *working, double lr,
                  double beta1, double beta2, double eps, double decay, double bias1, double bias2, double grad_scale) {
    float b1 = (float)beta1, b2 = (float)beta2, c1 = (float)(1.0 - beta1), c2 = (float)(1.0 - beta2);
    float step = (float)(lr / bias1), root = (float)(1.0 / sqrt(bias2)), e = (float)eps, s = (float)grad_scale;
    float shrink = (float)(1.0 - lr * decay);
#define ADAM_STEP(GRADIENT)                                                                                            \
    {                                                                                                                  \
        float g = GRADIENT;                                                                                            \
        float mi = b1 * m[i] + c1 * g, vi = b2 * v[i] + c2 * g * g;                                                    \
        float w = weight[i] * shrink - step * mi / (sqrtf(vi) * root + e);                                             \
        m[i] = mi;                                                                                                     \
        v[i] = vi;                                                                                                     \
        weight[i] = w;                                                                                                 \
        if (working) working[i] = down(w);                                                                             \
    }
    if (grad) {
#pragma omp parallel for simd num_threads(threads) schedule(static)
        for (int64_t i = 0; i < n; i++) ADAM_STEP(up(grad[i]) * s)
    } else {
#pragma omp parallel for simd num_threads(threads) schedule(static)
        for (int64_t i = 0; i < n; i++) ADAM_STEP(0.0f)
    }
    return 0;
}

/* The same on a table of rows of width H of which a batch touches few: gradient row slot[r] belongs to row r, -1 to none;
 * rows never touched so far (seen[r] = 0) have zero moments and only decay. */
int bertune_adamw_rows(int threads, int64_t rows, int64_t H, float *weight, float *m, float *v, const float *grad,
                       const int32_t *slot, uint8_t *seen, double lr, double beta1, double beta2, double eps,
                       double decay, double bias1, double bias2, double grad_scale) {
    float b1 = (float)beta1, b2 = (float)beta2, c1 = (float)(1.0 - beta1), c2 = (float)(1.0 - beta2);
    float step = (float)(lr / bias1), root = (float)(1.0 / sqrt(bias2)), e = (float)eps, s = (float)grad_scale;
    float shrink = (float)(1.0 - lr * decay);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        float *w = weight + r * H, *mr = m + r * H, *vr = v + r * H;
        if (slot[r] >= 0) seen[r] = 1;
        if (!seen[r]) {
            if (shrink != 1.0f) {
#pragma omp simd
                for (int64_t c = 0; c < H; c++) w[c] *= shrink;
            }
            continue;
        }
        const float *g = slot[r] >= 0 ? grad + (int64_t)slot[r] * H : NULL;
        float gs = g ? s : 0.0f;
        if (!g) g = mr; /* any readable row: its factor is zero */
#pragma omp simd
        for (int64_t c = 0; c < H; c++) {
            float gc = g[c] * gs;
            float mi = b1 * mr[c] + c1 * gc, vi = b2 * vr[c] + c2 * gc * gc;
            w[c] = w[c] * shrink - step * mi / (sqrtf(vi) * root + e);
            mr[c] = mi;
            vr[c] = vi;
        }
    }
    return 0;
}

/* Sum of squares of n gradients, in double, in a fixed order. */
int bertune_sum_of_squares(int threads, int64_t n, const elem *x, double *out) {
    enum { CHUNK = 16384 };
    int64_t chunks = (n + CHUNK - 1) / CHUNK;
    double *parts = malloc((size_t)(chunks ? chunks : 1) * sizeof(double));
    if (!parts) return 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t k = 0; k < chunks; k++) {
        int64_t to = (k + 1) * CHUNK < n ? (k + 1) * CHUNK : n;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = k * CHUNK; i < to; i++) sum += up(x[i]) * up(x[i]);
        parts[k] = sum;
    }
    double total = 0.0;
    for (int64_t k = 0; k < chunks; k++) total += parts[k];
    *out = total;
    free(parts);
    return 0;
}

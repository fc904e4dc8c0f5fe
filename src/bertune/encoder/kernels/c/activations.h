/* Elementary functions, and the activations made of them with their slopes. */
#pragma once
#include "vectors.h"

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
        vec e = exponential(-1.5957691216057308f * (x + 0.044715f * x * x * x)), s = 1.0f / (1.0f + e);
        return s + x * s * (s * e) * 1.5957691216057308f * (1.0f + 0.134145f * x * x); /* s e = 1 - s, but exact */
    }
    return choose((bits_vec)(x > spread(0.0f)), spread(1.0f), (vec){0});
}

/* BODY for every vector of values from c on, with the activation's kind known to the compiler */
#define ACTIVATION_LOOP(KIND, BODY)                                                                                    \
    {                                                                                                                  \
        enum { kind = KIND };                                                                                          \
        for (int64_t c = 0; c < I; c += LANES) { BODY }                                                                \
    }
#define ACTIVATION_LOOPS(BODY)                                                                                         \
    if (activation == GELU_ERF) ACTIVATION_LOOP(GELU_ERF, BODY)                                                        \
    else if (activation == GELU_TANH) ACTIVATION_LOOP(GELU_TANH, BODY)                                                 \
    else ACTIVATION_LOOP(RELU, BODY)

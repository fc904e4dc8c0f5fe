/* Quantization for prediction: 8 bits a value, one scale a row, 128 standing for zero. */
#include "activations.h"
#include "rows.h"

static inline void store_bytes(uint8_t *to, bits_vec x, int64_t left) { /* the lowest eight bits of each */
#if VECTOR_BYTES == 64
    byte_vec bytes = (byte_vec)_mm512_cvtepi32_epi8((__m512i)x);
#elif VECTOR_BYTES == 32
    __m256i low = _mm256_and_si256((__m256i)x, _mm256_set1_epi32(255));
    __m128i pairs = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    byte_vec bytes = (byte_vec)_mm_cvtsi128_si64(_mm_packus_epi16(pairs, pairs));
#else
    byte_vec bytes = __builtin_convertvector(x, byte_vec);
#endif
    if (left >= LANES) {
        *(byte_vec *)to = bytes;
        return;
    }
    uint8_t some[LANES];
    *(byte_vec *)some = bytes;
    for (int64_t i = 0; i < left; i++) to[i] = some[i];
}

/* row (n, zeros up to whole vectors) → q: round(row / scale) + 128, scale = largest magnitude / 127.
 * Returns the scale. */
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

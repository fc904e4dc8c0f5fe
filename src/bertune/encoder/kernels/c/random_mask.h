/* Random masks: a hash of the element's index under a 64-bit seed; nothing is stored for the way back. */
#pragma once
#include "vectors.h"

typedef struct {
    uint32_t low, high; /* the seed */
    uint32_t threshold; /* dropped when the hash lies below it: p * 2^32; 0 = no dropout */
    float scale;        /* 1 / (1 - p) */
} dropout_t;

static inline dropout_t dropout_make(uint64_t seed, double p) {
    dropout_t d = {(uint32_t)seed, (uint32_t)(seed >> 32), (uint32_t)(p * 4294967296.0), (float)(1.0 / (1.0 - p))};
    return d;
}

/* x >= least, unsigned: all ones or zeros. AVX2 and SSE compare signed numbers only, but know the larger of two. */
static inline bits_vec at_least(bits_vec x, uint32_t least) {
#if VECTOR_BYTES == 32
    return (bits_vec)_mm256_cmpeq_epi32(_mm256_max_epu32((__m256i)x, (__m256i)spread_bits(least)), (__m256i)x);
#else
    return (bits_vec)(x >= least);
#endif
}

/* What to multiply a vector of elements from `index` on by. */
static inline vec dropout_factors(dropout_t d, uint32_t index) {
    /* lowbias32 (C. Wellons), keyed; the first of its products is a constant and one of plain integers */
    bits_vec x = numbers_from(0) * 0x9e3779b1u + (index * 0x9e3779b1u + d.low);
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= (x >> 15) ^ d.high;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return (vec)(at_least(x, d.threshold) & (bits_vec)spread(d.scale));
}

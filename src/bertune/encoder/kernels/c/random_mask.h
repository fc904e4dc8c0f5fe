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

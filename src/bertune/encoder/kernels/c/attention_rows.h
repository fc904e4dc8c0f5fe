/* Rows of queries, keys and values on their way between a tensor and a thread's own room. */
#pragma once
#include "vectors.h"

/* Sixteen values of a row of qkv: times its scale, plus bias, times a factor; zeros behind the row's D. */
static inline vec gathered(const elem *row, int64_t c, int64_t D, float row_scale, const float *bias, float factor) {
    vec x = load_part(row + c, D - c) * row_scale;
    if (bias) x += load_floats(bias + c, D - c);
    return x * factor;
}

/* rows (S, D) of a column block of qkv, plus bias, times a factor → out (S, Dp) and/or its transpose (Dp, Sp),
 * zero padded */
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

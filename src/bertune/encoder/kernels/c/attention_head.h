/* One head of one sequence, and its rows on their way between a tensor and a thread's own room. */
#pragma once
#include "random_mask.h"
#include "vectors.h"

/* Handed on by value: of one behind a pointer, fields would be loaded again after every store. */
typedef struct {
    int64_t S, R;           /* keys; queries, which are as many, or the padding's too */
    int64_t D, H, heads;    /* head size, hidden size, heads */
    const elem *qkv;        /* the head's queries, rows 3H apart; its keys lie H and its values 2H behind */
    const float *row_scale; /* multiplies rows of qkv first where not NULL */
    const float *bias;      /* of the queries; those of keys and values lie H and 2H behind */
    dropout_t drop;
    uint32_t mask_start, mask_row; /* where the mask of its probabilities begins, and from one row to the next */
} head_t;

/* Index of the mask's first element for a query; every query has its own row of it. */
static inline uint32_t mask_index(head_t h, int64_t query) { return h.mask_start + (uint32_t)query * h.mask_row; }

/* A vector of a row of qkv: times its scale, plus bias, times a factor; zeros behind the row's D. */
static inline vec gathered(const elem *row, int64_t c, int64_t D, float row_scale, const float *bias, float factor) {
    vec x = load_part(row + c, D - c) * row_scale;
    if (bias) x += load_floats(bias + c, D - c);
    return x * factor;
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

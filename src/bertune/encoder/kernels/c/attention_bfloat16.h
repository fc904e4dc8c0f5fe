/* A head's attention with products of pairs of bfloat16 (vdpbf16ps): twice the multiplications of float32's in the same
 * time. Sums are float32. Queries, keys, values and the result's gradient are multiplied as they come, their biases
 * apart in float32 (but for the queries of dK); probabilities and the gradients of scores are rounded first, as on GPUs
 * (Dao et al., 2022). */
#pragma once
#include <math.h>
#include <string.h>

#include "attention_head.h"

typedef uint32_t pair; /* two values that follow each other on the axis that a product sums over, the first one low */

enum {
    TILE_QUERIES = 64, /* a tile of scores, and what is made of it, */
    TILE_KEYS = 64,    /* stays in a cache close by */
    PAIR_ROWS = 8,     /* rows and */
    PAIR_COLUMNS = 32, /* columns of a product that are summed at a time */
};

static inline int64_t rounded_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/* Thirty-two neighbours, rounded. */
static inline bits_vec pairs_of(vec first, vec second) {
    return (bits_vec)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
}

/* Two rows in pairs of neighbours → thirty-two pairs of one above the other. */
static inline void pairs_across(bits_vec upper, bits_vec lower, pair *out) {
    static const uint16_t order[2][2 * LANES] __attribute__((aligned(64))) = {
        {0,  32, 1,  33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
         8,  40, 9,  41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47},
        {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
         24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63}};
    for (int half = 0; half < 2; half++)
        *(bits_vec *)(out + half * LANES) = (bits_vec)_mm512_permutex2var_epi16(
            (__m512i)upper, _mm512_load_si512(order[half]), (__m512i)lower);
}

/* C (M, N) = start (M, N) + A (M, K) B (K, N). K counts pairs, M is a multiple of 8, N of 32; A has any strides.
 * start: NULL for zeros, or C itself, or with lds = 0 one row for all. */
static void pair_product(int64_t M, int64_t N, int64_t K, const pair *A, int64_t am, int64_t ak, const pair *B,
                         int64_t ldb, const float *start, int64_t lds, float *C, int64_t ldc) {
    for (int64_t m = 0; m < M; m += PAIR_ROWS)
        for (int64_t n = 0; n < N; n += PAIR_COLUMNS) {
            __m512 sum[PAIR_ROWS][2];
            for (int r = 0; r < PAIR_ROWS; r++)
                for (int i = 0; i < 2; i++)
                    sum[r][i] = start ? _mm512_load_ps(start + (m + r) * lds + n + i * LANES) : _mm512_setzero_ps();
            for (int64_t k = 0; k < K; k++) {
                const pair *a = A + m * am + k * ak, *b = B + k * ldb + n;
                __m512bh b0 = (__m512bh)_mm512_load_si512(b), b1 = (__m512bh)_mm512_load_si512(b + LANES);
                _Pragma("GCC unroll 8") for (int r = 0; r < PAIR_ROWS; r++) {
                    __m512bh both = (__m512bh)_mm512_set1_epi32((int)a[r * am]);
                    sum[r][0] = _mm512_dpbf16_ps(sum[r][0], both, b0);
                    sum[r][1] = _mm512_dpbf16_ps(sum[r][1], both, b1);
                }
            }
            for (int r = 0; r < PAIR_ROWS; r++)
                for (int i = 0; i < 2; i++) _mm512_store_ps(C + (m + r) * ldc + n + i * LANES, sum[r][i]);
        }
}

/* rows (S, D) of a column block, times their scale and plus bias where there are any, zeros behind the last one → as
 * far as asked for, pairs of columns (Sp, D / 2), their transpose (D / 2, Sp), and pairs of rows (Sp / 2, D).
 * Sp is a multiple of 16. */
static inline __attribute__((always_inline)) void gather_pairs(int64_t S, int64_t Sp, int64_t D, const elem *from,
                                                               int64_t stride, const float *row_scale,
                                                               const float *bias, pair *out, pair *transposed,
                                                               pair *across) {
    for (int64_t s0 = 0; s0 < Sp; s0 += LANES)
        for (int64_t c = 0; c < D; c += 2 * LANES) {
            vec block[LANES];
            for (int64_t i = 0; i < LANES; i++) {
                int64_t s = s0 + i;
                const elem *row = from + s * stride;
                block[i] = (vec){0};
                if (s < S) {
                    float scale = row_scale ? row_scale[s] : 1.0f;
                    __builtin_prefetch(row + D + c); /* the next head's, which this thread gathers next */
                    block[i] = (vec)pairs_of(gathered(row, c, D, scale, bias, 1.0f),
                                             gathered(row, c + LANES, D, scale, bias, 1.0f));
                }
                if (out) *(vec *)(out + (s * D + c) / 2) = block[i];
            }
            if (across)
                for (int64_t i = 0; i < LANES; i += 2)
                    pairs_across((bits_vec)block[i], (bits_vec)block[i + 1], across + (s0 + i) / 2 * D + c);
            if (!transposed) continue;
            transpose(block);
            for (int64_t i = 0; i < LANES; i++) *(vec *)(transposed + (c / 2 + i) * Sp + s0) = block[i];
        }
}

/* The queries' bias times every key (Sp, zeros behind the last one): what scores lack where neither queries nor keys
 * have theirs added. The keys' bias adds the same to all scores of a query, which softmax takes away again. */
static inline void scores_of_bias(head_t h, int64_t Sp, float *by_key) {
    memset(by_key, 0, (size_t)Sp * sizeof(float));
    for (int64_t s = 0; s < h.S; s++) {
        vec products = {0};
        for (int64_t c = 0; c < h.D; c += LANES)
            products += load(h.qkv + h.H + s * 3 * h.H + c) * *(const loose_vec *)(h.bias + c);
        by_key[s] = sum_of(products) * (h.row_scale ? h.row_scale[s] : 1.0f);
    }
}

/* Scores (rows, ld) of what lies behind the last key, which never win; columns count from the key `first` on. */
static inline void hide_behind(int64_t S, int64_t first, int64_t width, float *scores, int64_t rows, int64_t ld) {
    for (int64_t c = S > first ? (S - first) / LANES * LANES : 0; c < width; c += LANES) {
        bits_vec keys = (bits_vec)(numbers_from((uint32_t)(first + c)) < (uint32_t)S);
        for (int64_t r = 0; r < rows; r++)
            *(vec *)(scores + r * ld + c) = choose(keys, *(vec *)(scores + r * ld + c), spread(-1e30f));
    }
}

static const float LOG2_E = 1.44269504088896341f, LN_2 = 0.69314718055994531f;

/* 2^x; relative error below 3e-6 */
static inline vec power_of_two(vec x) {
    vec n = (vec)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = x - n;
    vec p = f * 9.570100345e-3f + 5.591786280e-2f;
    p = p * f + 2.402474433e-1f;
    p = p * f + 6.931217909e-1f;
    p = p * f + 9.999992847e-1f;
    return (vec)_mm512_scalef_ps((__m512)p, (__m512)n);
}

/* Rows of scores (rows, Sp) → P, their exponentials after dropout. total: sum of a row before dropout; kept: after it;
 * highest: logarithm to base 2 of what all of a row are divided by. */
static inline void softmax_rows(head_t h, int64_t q0, int64_t rows, int64_t Sp, const float *scores, pair *P,
                                float *total, float *kept, float *highest) {
    float to_bits = LOG2_E / sqrtf((float)h.D);
    for (int64_t r = 0; r < rows; r++) {
        const float *row = scores + r * Sp;
        uint32_t index = mask_index(h, q0 + r);
        vec most = *(const vec *)row, other = most, sum = {0}, kept_sum = {0};
        for (int64_t c = 0; c < Sp; c += 2 * LANES) {
            most = larger(most, *(const vec *)(row + c));
            other = larger(other, *(const vec *)(row + c + LANES));
        }
        float top = largest_of(larger(most, other)) * to_bits;
        for (int64_t c = 0; c < Sp; c += 2 * LANES) {
            vec first = power_of_two(*(const vec *)(row + c) * to_bits - top);
            vec second = power_of_two(*(const vec *)(row + c + LANES) * to_bits - top);
            sum += first + second;
            if (h.drop.threshold) {
                first *= dropout_factors(h.drop, index + (uint32_t)c);
                second *= dropout_factors(h.drop, index + (uint32_t)(c + LANES));
            }
            kept_sum += first + second;
            *(bits_vec *)(P + (r * Sp + c) / 2) = pairs_of(first, second);
        }
        total[r] = sum_of(sum);
        kept[r] = sum_of(kept_sum);
        highest[r] = top;
    }
}

static int64_t pairs_forward_room(int64_t longest, int64_t D) {
    int64_t Sp = rounded_up(longest, PAIR_COLUMNS);
    return (D + 1) * Sp + TILE_QUERIES * (D / 2 + D + Sp + Sp / 2);
}

static void pairs_forward(head_t h, float *room, elem *out, float *lse) {
    int64_t S = h.S, D = h.D, H = h.H, Sp = rounded_up(S, PAIR_COLUMNS);
    float *scores = room, *O = scores + TILE_QUERIES * Sp, *by_key = O + TILE_QUERIES * D;
    pair *Kt = (pair *)(by_key + Sp), *V = Kt + D / 2 * Sp, *Q = V + Sp / 2 * D, *P = Q + TILE_QUERIES * D / 2;
    gather_pairs(S, Sp, D, h.qkv + H, 3 * H, h.row_scale, NULL, NULL, Kt, NULL);
    gather_pairs(S, Sp, D, h.qkv + 2 * H, 3 * H, h.row_scale, NULL, NULL, NULL, V);
    scores_of_bias(h, Sp, by_key);
    for (int64_t q0 = 0; q0 < h.R; q0 += TILE_QUERIES) {
        int64_t rows = h.R - q0 < TILE_QUERIES ? h.R - q0 : TILE_QUERIES, whole = rounded_up(rows, PAIR_ROWS);
        const float *row_scale = h.row_scale ? h.row_scale + q0 : NULL;
        float total[TILE_QUERIES], kept[TILE_QUERIES], highest[TILE_QUERIES];
        gather_pairs(rows, rounded_up(rows, LANES), D, h.qkv + q0 * 3 * H, 3 * H, row_scale, NULL, Q, NULL, NULL);
        pair_product(whole, Sp, D / 2, Q, D / 2, 1, Kt, Sp, by_key, 0, scores, Sp);
        hide_behind(S, 0, Sp, scores, whole, Sp);
        softmax_rows(h, q0, whole, Sp, scores, P, total, kept, highest);
        pair_product(whole, D, Sp / 2, P, Sp / 2, 1, V, D, NULL, 0, O, D);
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t c = 0; c < D; c += LANES) {
                vec by_bias = *(const loose_vec *)(h.bias + 2 * H + c) * kept[r];
                store(out + (q0 + r) * H + c, (*(vec *)(O + r * D + c) + by_bias) * (1.0f / total[r]));
            }
            if (lse) lse[(q0 + r) * h.heads] = highest[r] * LN_2 + logf(total[r]);
        }
    }
}

/* What the way back needs to know of the queries of a tile. */
typedef struct {
    float logs[TILE_QUERIES];    /* logarithm to base 2 of the softmax's denominator */
    float by_bias[TILE_QUERIES]; /* the result's gradient times the bias of the values, */
    float delta[TILE_QUERIES];   /* and times the result */
} tile_rows_t;

static inline tile_rows_t tile_rows(head_t h, int64_t rows, const elem *out, const float *lse, const elem *dout) {
    tile_rows_t t = {{0}, {0}, {0}};
    for (int64_t r = 0; r < rows; r++) {
        vec by_bias = {0}, delta = {0};
        for (int64_t c = 0; c < h.D; c += LANES) {
            vec gradient = load(dout + r * h.H + c);
            by_bias += gradient * *(const loose_vec *)(h.bias + 2 * h.H + c);
            delta += gradient * load(out + r * h.H + c);
        }
        t.logs[r] = lse[r * h.heads] * LOG2_E;
        t.by_bias[r] = sum_of(by_bias);
        t.delta[r] = sum_of(delta);
    }
    /* Rows that only fill the tile up have scores too, those of the bias: this large, it leaves them no probability. */
    for (int64_t r = rows; r < TILE_QUERIES; r++) t.logs[r] = 1e30f;
    return t;
}

/* A tile of scores and of gradients of kept probabilities (dP) → probabilities after dropout in pairs of queries (P),
 * and gradients of scores in pairs of keys (dS) and of queries (dSt). */
static inline void score_gradients(head_t h, const tile_rows_t *t, int64_t rows, int64_t width, uint32_t index,
                                   const float *scores, const float *dP, pair *P, pair *dS, pair *dSt) {
    float to_bits = LOG2_E / sqrtf((float)h.D);
    for (int64_t r0 = 0; r0 < rows; r0 += 2)
        for (int64_t c = 0; c < width; c += 2 * LANES) {
            bits_vec kept_pairs[2], slope_pairs[2];
            _Pragma("GCC unroll 2") for (int64_t r = r0; r < r0 + 2; r++) {
                vec kept[2], slope[2];
                _Pragma("GCC unroll 2") for (int i = 0; i < 2; i++) {
                    int64_t place = r * TILE_KEYS + c + i * LANES;
                    vec probability = power_of_two(*(const vec *)(scores + place) * to_bits - t->logs[r]);
                    kept[i] = probability;
                    slope[i] = *(const vec *)(dP + place) + t->by_bias[r];
                    if (h.drop.threshold) {
                        uint32_t first = index + (uint32_t)r * h.mask_row + (uint32_t)(c + i * LANES);
                        vec factors = dropout_factors(h.drop, first);
                        kept[i] *= factors;
                        slope[i] *= factors;
                    }
                    slope[i] = probability * (slope[i] - t->delta[r]);
                }
                kept_pairs[r - r0] = pairs_of(kept[0], kept[1]);
                slope_pairs[r - r0] = pairs_of(slope[0], slope[1]);
                *(bits_vec *)(dS + (r * TILE_KEYS + c) / 2) = slope_pairs[r - r0];
            }
            pairs_across(kept_pairs[0], kept_pairs[1], P + r0 / 2 * TILE_KEYS + c);
            pairs_across(slope_pairs[0], slope_pairs[1], dSt + r0 / 2 * TILE_KEYS + c);
        }
}

static int64_t pairs_backward_room(int64_t longest, int64_t D) {
    int64_t Sp = rounded_up(longest, PAIR_COLUMNS), tile = TILE_QUERIES * TILE_KEYS;
    return (2 * D + 1) * Sp + TILE_QUERIES * D + 2 * tile + 3 * D * Sp / 2 + 4 * TILE_QUERIES * D / 2 + 3 * tile / 2;
}

static void pairs_backward(head_t h, float *room, const elem *out, const float *lse, const elem *dout,
                                  elem *dqkv) {
    int64_t S = h.S, D = h.D, H = h.H, Sp = rounded_up(S, PAIR_COLUMNS);
    int64_t tile = TILE_QUERIES * TILE_KEYS, rows_room = TILE_QUERIES * D / 2;
    float scale = 1.0f / sqrtf((float)D);
    float *dK = room, *dV = dK + Sp * D, *by_key = dV + Sp * D, *dQ = by_key + Sp;
    float *scores = dQ + TILE_QUERIES * D, *dP = scores + tile;
    pair *Kt = (pair *)(dP + tile), *K = Kt + D / 2 * Sp, *Vt = K + Sp / 2 * D;
    pair *Q = Vt + D / 2 * Sp, *Qt = Q + rows_room, *dO = Qt + rows_room, *dOt = dO + rows_room;
    pair *P = dOt + rows_room, *dS = P + tile / 2, *dSt = dS + tile / 2;
    gather_pairs(S, Sp, D, h.qkv + H, 3 * H, NULL, NULL, NULL, Kt, K); /* softmax has no gradient for the bias of K */
    gather_pairs(S, Sp, D, h.qkv + 2 * H, 3 * H, NULL, NULL, NULL, Vt, NULL);
    scores_of_bias(h, Sp, by_key);
    for (int64_t q0 = 0; q0 < h.R; q0 += TILE_QUERIES) {
        int64_t rows = h.R - q0 < TILE_QUERIES ? h.R - q0 : TILE_QUERIES, whole = rounded_up(rows, PAIR_ROWS);
        int64_t filled = rounded_up(rows, LANES);
        const elem *queries = h.qkv + q0 * 3 * H, *gradient = dout + q0 * H;
        tile_rows_t t = tile_rows(h, rows, out + q0 * H, lse + q0 * h.heads, gradient);
        gather_pairs(rows, filled, D, queries, 3 * H, NULL, NULL, Q, NULL, NULL);
        gather_pairs(rows, filled, D, queries, 3 * H, NULL, h.bias, NULL, NULL, Qt);
        gather_pairs(rows, filled, D, gradient, H, NULL, NULL, dO, NULL, dOt);
        for (int64_t k0 = 0; k0 < Sp; k0 += TILE_KEYS) {
            int64_t width = Sp - k0 < TILE_KEYS ? Sp - k0 : TILE_KEYS;
            float *dKk = dK + k0 * D, *dVk = dV + k0 * D;
            pair_product(whole, width, D / 2, Q, D / 2, 1, Kt + k0, Sp, by_key + k0, 0, scores, TILE_KEYS);
            pair_product(whole, width, D / 2, dO, D / 2, 1, Vt + k0, Sp, NULL, 0, dP, TILE_KEYS);
            hide_behind(S, k0, width, scores, whole, TILE_KEYS);
            score_gradients(h, &t, whole, width, mask_index(h, q0) + (uint32_t)k0, scores, dP, P, dS, dSt);
            pair_product(width, D, whole / 2, P, 1, TILE_KEYS, dOt, D, q0 ? dVk : NULL, D, dVk, D);
            pair_product(width, D, whole / 2, dSt, 1, TILE_KEYS, Qt, D, q0 ? dKk : NULL, D, dKk, D);
            pair_product(whole, D, width / 2, dS, TILE_KEYS / 2, 1, K + k0 / 2 * D, D, k0 ? dQ : NULL, D, dQ, D);
        }
        scatter(rows, D, D, dQ, NULL, scale, dqkv + q0 * 3 * H, 3 * H);
    }
    scatter(S, D, D, dK, NULL, scale, dqkv + H, 3 * H);
    scatter(S, D, D, dV, NULL, 1.0f, dqkv + 2 * H, 3 * H);
}

/* A head's attention with products of float32. */
#pragma once
#include <math.h>

#include "activations.h"
#include "attention_head.h"
#include "products.h"

enum { QUERIES = TILE_ROWS == 6 ? 36 : 32 }; /* rows of the probability matrix held at a time: whole tiles */

/* Which places of the last vector of a row of scores are keys; the others only fill the row up. */
static inline bits_vec last_keys(int64_t S) {
    return (bits_vec)(numbers_from(0) < (uint32_t)(S - padded(S) + LANES));
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

/* Floats that the functions below need for sequences of this length. */
static int64_t float32_forward_room(int64_t longest, int64_t D) {
    return 2 * padded(D) * padded(longest) + QUERIES * (2 * padded(D) + padded(longest));
}
static int64_t float32_backward_room(int64_t longest, int64_t D) {
    return 5 * padded(D) * padded(longest) + QUERIES * (3 * padded(D) + 2 * padded(longest));
}

static void float32_forward(head_t h, float *room, elem *out, float *lse) {
    int64_t S = h.S, R = h.R, D = h.D, H = h.H, Dp = padded(D), Sp = padded(S);
    float scale = 1.0f / sqrtf((float)D);
    bits_vec keys = last_keys(S);
    float *Kt = room, *V = Kt + Dp * Sp, *Q = V + Sp * Dp, *O = Q + QUERIES * Dp, *P = O + QUERIES * Dp;
    gather(S, D, Dp, Sp, h.qkv + H, 3 * H, h.row_scale, h.bias + H, 1.0f, NULL, Kt);
    gather(S, D, Dp, Sp, h.qkv + 2 * H, 3 * H, h.row_scale, h.bias + 2 * H, 1.0f, V, NULL);
    for (int64_t q0 = 0; q0 < R; q0 += QUERIES) {
        int64_t rows = R - q0 < QUERIES ? R - q0 : QUERIES;
        const float *row_scale = h.row_scale ? h.row_scale + q0 : NULL;
        float over[QUERIES];
        gather(rows, D, Dp, 0, h.qkv + q0 * 3 * H, 3 * H, row_scale, h.bias, scale, Q, NULL);
        product(rows, Sp, D, Q, Dp, 1, Kt, Sp, P, Sp, 0);
        for (int64_t r = 0; r < rows; r++) {
            float *pr = P + r * Sp;
            *(vec *)(pr + Sp - LANES) = choose(keys, *(vec *)(pr + Sp - LANES), spread(-1e30f));
            vec most = *(vec *)pr, sum = {0};
            for (int64_t c = LANES; c < Sp; c += LANES) most = larger(most, *(vec *)(pr + c));
            float highest = largest_of(most);
            for (int64_t c = 0; c < Sp; c += LANES)
                sum += *(vec *)(pr + c) = exponential(*(vec *)(pr + c) - highest);
            float total = sum_of(sum);
            over[r] = 1.0f / total;
            if (h.drop.threshold) {
                uint32_t index = mask_index(h, q0 + r);
                for (int64_t c = 0; c < Sp; c += LANES)
                    *(vec *)(pr + c) *= dropout_factors(h.drop, index + (uint32_t)c);
            }
            if (lse) lse[(q0 + r) * h.heads] = highest + logf(total);
        }
        product(rows, Dp, S, P, Sp, 1, V, Dp, O, Dp, 0);
        scatter(rows, D, Dp, O, over, 1.0f, out + q0 * H, H);
    }
}

static void float32_backward(head_t h, float *room, const elem *out, const float *lse, const elem *dout,
                                 elem *dqkv) {
    int64_t S = h.S, R = h.R, D = h.D, H = h.H, Dp = padded(D), Sp = padded(S);
    float scale = 1.0f / sqrtf((float)D);
    bits_vec keys = last_keys(S);
    float *Kt = room, *K = Kt + Dp * Sp, *Vt = K + Dp * Sp, *dK = Vt + Dp * Sp, *dV = dK + Dp * Sp;
    float *Q = dV + Dp * Sp, *dO = Q + QUERIES * Dp, *dQ = dO + QUERIES * Dp;
    float *P = dQ + QUERIES * Dp, *dP = P + QUERIES * Sp;
    gather(S, D, Dp, Sp, h.qkv + H, 3 * H, NULL, h.bias + H, 1.0f, K, Kt);
    gather(S, D, Dp, Sp, h.qkv + 2 * H, 3 * H, NULL, h.bias + 2 * H, 1.0f, NULL, Vt);
    for (int64_t q0 = 0; q0 < R; q0 += QUERIES) {
        int64_t rows = R - q0 < QUERIES ? R - q0 : QUERIES;
        gather(rows, D, Dp, 0, h.qkv + q0 * 3 * H, 3 * H, NULL, h.bias, scale, Q, NULL);
        gather(rows, D, Dp, 0, dout + q0 * H, H, NULL, NULL, 1.0f, dO, NULL);
        product(rows, Sp, D, Q, Dp, 1, Kt, Sp, P, Sp, 0);
        product(rows, Sp, D, dO, Dp, 1, Vt, Sp, dP, Sp, 0);
        for (int64_t r = 0; r < rows; r++) {
            const elem *or = out + (q0 + r) * H;
            vec products = {0};
            float l = lse[(q0 + r) * h.heads];
            for (int64_t c = 0; c < Dp; c += LANES)
                products += gathered(or, c, D, 1.0f, NULL, 1.0f) * *(vec *)(dO + r * Dp + c);
            float delta = sum_of(products);
            float *pr = P + r * Sp, *dr = dP + r * Sp;
            *(vec *)(pr + Sp - LANES) = choose(keys, *(vec *)(pr + Sp - LANES), spread(-1e30f));
            uint32_t index = mask_index(h, q0 + r);
            for (int64_t c = 0; c < Sp; c += LANES) {
                vec probability = exponential(*(vec *)(pr + c) - l), slope = *(vec *)(dr + c);
                vec kept = probability;
                if (h.drop.threshold) {
                    vec keep = dropout_factors(h.drop, index + (uint32_t)c);
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
        scatter(rows, D, Dp, dQ, NULL, scale, dqkv + q0 * 3 * H, 3 * H);
    }
    scatter(S, D, Dp, dK, NULL, 1.0f, dqkv + H, 3 * H);
    scatter(S, D, Dp, dV, NULL, 1.0f, dqkv + 2 * H, 3 * H);
}

/* Softmax attention, head by head; the probabilities are never stored. */
#include <math.h>

#include "activations.h"
#include "attention_rows.h"
#include "products.h"
#include "random_mask.h"
#include "rows.h"

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
                              const float *row_scale, const float *bias, double p, uint64_t seed, elem *out,
                              float *lse) {
    int64_t H = heads * D, Dp = padded(D), widest = padded(longest);
    float scale = 1.0f / sqrtf((float)D);
    dropout_t drop = dropout_make(seed, p);
    /* a thread takes all heads of a sequence where there are enough */
    int chunk = sequences >= 4 * threads ? (int)heads : 1;
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
                    for (int64_t c = 0; c < Sp; c += LANES)
                        sum += *(vec *)(pr + c) = exponential(*(vec *)(pr + c) - highest);
                    float total = sum_of(sum);
                    over[r] = 1.0f / total;
                    if (drop.threshold) {
                        uint32_t index = (uint32_t)((start * heads + head * R + q0 + r) * longest);
                        for (int64_t c = 0; c < Sp; c += LANES)
                            *(vec *)(pr + c) *= dropout_factors(drop, index + (uint32_t)c);
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
            float *Kt = room, *K = Kt + Dp * widest, *Vt = K + Dp * widest;
            float *dK = Vt + Dp * widest, *dV = dK + Dp * widest;
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

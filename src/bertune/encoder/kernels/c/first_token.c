/* Attention for the first token of every sequence, without keys and values for the others; and the products of heads. */
#include <math.h>

#include "activations.h"
#include "products.h"
#include "dot_products.h"
#include "rows.h"

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* y (M, N) = x (M, K) w (N, K)ᵀ + bias, where there is one. All float32, in the library of float32 tensors. */
int bertune_row_products(int threads, int64_t M, int64_t N, int64_t K, const float *x, const float *w,
                         const float *bias, float *y) {
    int64_t down = (M + DOT_ROWS - 1) / DOT_ROWS, across = (N + DOT_COLUMNS - 1) / DOT_COLUMNS;
#pragma omp parallel for num_threads(threads) schedule(static) if (M * N * K > 1 << 16)
    for (int64_t tile = 0; tile < down * across; tile++) {
        int64_t m0 = tile / across * DOT_ROWS, n0 = tile % across * DOT_COLUMNS;
        const float *rows[DOT_ROWS], *columns[DOT_COLUMNS];
        float out[DOT_ROWS][DOT_COLUMNS];
        /* tiles are always whole: the last one repeats its last row and column */
        for (int r = 0; r < DOT_ROWS; r++) rows[r] = x + least(m0 + r, M - 1) * K;
        for (int n = 0; n < DOT_COLUMNS; n++) columns[n] = w + least(n0 + n, N - 1) * K;
        float_dots(K, rows, columns, out);
        for (int64_t m = m0; m < least(m0 + DOT_ROWS, M); m++)
            for (int64_t n = n0; n < least(n0 + DOT_COLUMNS, N); n++)
                y[m * N + n] = out[m - m0][n - n0] + (bias ? bias[n] : 0.0f);
    }
    return 0;
}

/* Heads of a sequence that share what is loaded of its tokens. */
enum { HEADS = 4 };

/* out[r] (N) = rows r of x, each of K values, times w (N, K) plus bias; for DOT_ROWS rows. */
static void tile_products(int64_t N, int64_t K, const float *const x[DOT_ROWS], const elem *w, const float *bias,
                          float factor, float *const out[DOT_ROWS]) {
    for (int64_t n0 = 0; n0 < N; n0 += DOT_COLUMNS) {
        const elem *columns[DOT_COLUMNS];
        float found[DOT_ROWS][DOT_COLUMNS];
        for (int n = 0; n < DOT_COLUMNS; n++) columns[n] = w + least(n0 + n, N - 1) * K;
        dots(K, x, columns, found);
        for (int r = 0; r < DOT_ROWS; r++)
            for (int64_t n = n0; n < least(n0 + DOT_COLUMNS, N); n++)
                out[r][n] = (found[r][n - n0] + (bias ? bias[n] : 0.0f)) * factor;
    }
}

/* out[r] (H) = Σ q[r][d] w[d], the rows of w (D, H); for DOT_ROWS rows */
static void tile_combinations(int64_t D, int64_t H, const float *const q[DOT_ROWS], const elem *w,
                              float *const out[DOT_ROWS]) {
    for (int64_t c = 0; c < H; c += LANES) {
        vec sum[DOT_ROWS];
        for (int r = 0; r < DOT_ROWS; r++) sum[r] = (vec){0};
        for (int64_t d = 0; d < D; d++) {
            vec row = load_part(w + d * H + c, H - c);
            _Pragma("GCC unroll 4") for (int r = 0; r < DOT_ROWS; r++) sum[r] += q[r][d] * row;
        }
        for (int r = 0; r < DOT_ROWS; r++) *(vec *)(out[r] + c) = sum[r];
    }
}

/* scores[h] (S) = seen[h] · every token; for HEADS heads. seen: rows of Hp values, zeros at their ends. */
static void token_scores(int64_t S, int64_t H, int64_t Hp, const elem *x, const float *seen, float *scores,
                         int64_t Sp) {
    for (int64_t t = 0; t < S; t++) {
        vec sum[HEADS] = {{0}};
        for (int64_t c = 0; c < H; c += LANES) {
            vec token = load_part(x + t * H + c, H - c);
            _Pragma("GCC unroll 4") for (int h = 0; h < HEADS; h++) sum[h] += token * *(const vec *)(seen + h * Hp + c);
        }
        for (int h = 0; h < HEADS; h++) scores[h * Sp + t] = sum_of(sum[h]);
    }
}

/* A softmax in place over S of Sp places. */
static void normalise(int64_t S, int64_t Sp, float *scores) {
    for (int64_t t = S; t < Sp; t++) scores[t] = -1e30f;
    vec most = *(vec *)scores, sum = {0};
    for (int64_t t = LANES; t < Sp; t += LANES) most = larger(most, *(vec *)(scores + t));
    float highest = largest_of(most);
    for (int64_t t = 0; t < Sp; t += LANES) sum += *(vec *)(scores + t) = exponential(*(vec *)(scores + t) - highest);
    vec over = spread(1.0f / sum_of(sum));
    for (int64_t t = 0; t < Sp; t += LANES) *(vec *)(scores + t) *= over;
}

/* mixed[h] (Hp) = Σ weights[h][t] token t; for HEADS heads */
static void mix_tokens(int64_t S, int64_t H, int64_t Hp, const elem *x, const float *weights, int64_t Sp,
                       float *mixed) {
    for (int64_t c = 0; c < H; c += LANES) {
        vec sum[HEADS] = {{0}};
        for (int64_t t = 0; t < S; t++) {
            vec token = load_part(x + t * H + c, H - c);
            _Pragma("GCC unroll 4") for (int h = 0; h < HEADS; h++) sum[h] += weights[h * Sp + t] * token;
        }
        for (int h = 0; h < HEADS; h++) *(vec *)(mixed + h * Hp + c) = sum[h];
    }
}

/* See `first_token_attention` of attention.py, which this equals without dropout, in order and meaning.
 * x (T, H); w (3H, H) and bias (3H), of queries, keys and values; window: tokens seen to the right, 0: all;
 * out (sequences, H). A task is DOT_ROWS sequences, so that weights are loaded once for all of them, and HEADS heads;
 * tasks are always whole: the last ones repeat a sequence and a head. */
int bertune_first_tokens(int threads, int64_t sequences, const int64_t *starts, const int64_t *lengths,
                         int64_t longest, int64_t heads, int64_t D, int64_t window, const elem *x, const elem *w,
                         const float *bias, elem *out) {
    int64_t H = heads * D, Hp = padded(H), Dp = padded(D), Sp = padded(longest);
    int64_t groups = (heads + HEADS - 1) / HEADS, tiles = (sequences + DOT_ROWS - 1) / DOT_ROWS;
    float scale = 1.0f / sqrtf((float)D);
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        int64_t one = HEADS * Hp; /* a row for each head of a sequence */
        float *room = scratch((size_t)(DOT_ROWS * (Hp + Dp + one) + HEADS * Sp + one));
        if (!room) failed = 1;
        float *first = room, *q = first + DOT_ROWS * Hp, *seen = q + DOT_ROWS * Dp, *scores = seen + DOT_ROWS * one;
        float *mixed = scores + HEADS * Sp;
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < tiles * groups; task++) {
            if (!room) continue;
            int64_t s0 = task / groups * DOT_ROWS, h0 = task % groups * HEADS;
            int64_t here = least(DOT_ROWS, sequences - s0), mine = least(HEADS, heads - h0);
            const float *rows[DOT_ROWS], *queries[DOT_ROWS];
            float *results[DOT_ROWS];
            for (int r = 0; r < DOT_ROWS; r++) {
                const elem *token = x + starts[s0 + least(r, here - 1)] * H;
                for (int64_t c = 0; c < H; c += LANES) *(vec *)(first + r * Hp + c) = load_part(token + c, H - c);
                rows[r] = first + r * Hp;
                queries[r] = results[r] = q + r * Dp;
            }
            for (int64_t h = 0; h < mine; h++) {
                int64_t head = (h0 + h) * D;
                tile_products(D, H, rows, w + head * H, bias ? bias + head : NULL, scale, results);
                float *to[DOT_ROWS];
                for (int r = 0; r < DOT_ROWS; r++) to[r] = seen + r * one + h * Hp;
                tile_combinations(D, H, queries, w + (H + head) * H, to);
            }
            for (int64_t r = 0; r < here; r++) {
                float *own = seen + r * one;
                for (int64_t h = mine; h < HEADS; h++)
                    for (int64_t c = 0; c < Hp; c++) own[h * Hp + c] = own[c];
                const elem *tokens = x + starts[s0 + r] * H;
                int64_t S = lengths[s0 + r];
                if (window && S > window + 1) S = window + 1;
                token_scores(S, H, Hp, tokens, own, scores, Sp);
                for (int64_t h = 0; h < mine; h++) normalise(S, padded(S), scores + h * Sp);
                mix_tokens(S, H, Hp, tokens, scores, Sp, mixed);
                for (int64_t c = 0; c < one; c += LANES) *(vec *)(own + c) = *(vec *)(mixed + c);
            }
            for (int64_t h = 0; h < mine; h++) {
                int64_t head = (h0 + h) * D;
                const float *sums[DOT_ROWS];
                for (int r = 0; r < DOT_ROWS; r++) sums[r] = seen + least(r, here - 1) * one + h * Hp;
                const float *shift = bias ? bias + 2 * H + head : NULL;
                tile_products(D, H, sums, w + (2 * H + head) * H, shift, 1.0f, results);
                for (int64_t r = 0; r < here; r++)
                    for (int64_t d = 0; d < D; d++) out[(s0 + r) * H + head + d] = down(results[r][d]);
            }
        }
        free(room);
    }
    return failed;
}

/* Products of few rows with the rows of a matrix: every sum runs along its row in the same order, whatever rows are
 * computed beside it. (Libraries choose an order by the number of rows, so that answers depend on their company.) */
#pragma once
#include "vectors.h"

/* Rows of both sides that are multiplied with each other at a time: their sums and one side fill the registers. */
enum { DOT_ROWS = 4, DOT_COLUMNS = TILE_ROWS == 8 ? 4 : 2 };

/* out[r][n] = row r of x · row n of w, K long, for DOT_ROWS rows and DOT_COLUMNS columns. */
#define DOTS(NAME, TYPE, LOAD)                                                                                         \
    static inline __attribute__((always_inline)) void NAME(int64_t K, const float *const x[DOT_ROWS],                  \
                                                           const TYPE *const w[DOT_COLUMNS],                           \
                                                           float out[DOT_ROWS][DOT_COLUMNS]) {                         \
        vec sum[DOT_ROWS][DOT_COLUMNS];                                                                                \
        for (int r = 0; r < DOT_ROWS; r++)                                                                             \
            for (int n = 0; n < DOT_COLUMNS; n++) sum[r][n] = (vec){0};                                                \
        int64_t k = 0;                                                                                                 \
        for (; k + LANES <= K; k += LANES) {                                                                           \
            vec column[DOT_COLUMNS];                                                                                   \
            _Pragma("GCC unroll 4") for (int n = 0; n < DOT_COLUMNS; n++) column[n] = LOAD(w[n] + k, LANES);           \
            _Pragma("GCC unroll 4") for (int r = 0; r < DOT_ROWS; r++) {                                               \
                vec row = *(const loose_vec *)(x[r] + k);                                                              \
                _Pragma("GCC unroll 4") for (int n = 0; n < DOT_COLUMNS; n++) sum[r][n] += row * column[n];            \
            }                                                                                                          \
        }                                                                                                              \
        if (k < K) {                                                                                                   \
            vec column[DOT_COLUMNS];                                                                                   \
            for (int n = 0; n < DOT_COLUMNS; n++) column[n] = LOAD(w[n] + k, K - k);                                   \
            for (int r = 0; r < DOT_ROWS; r++) {                                                                       \
                vec row = load_floats(x[r] + k, K - k);                                                                \
                for (int n = 0; n < DOT_COLUMNS; n++) sum[r][n] += row * column[n];                                    \
            }                                                                                                          \
        }                                                                                                              \
        for (int r = 0; r < DOT_ROWS; r++)                                                                             \
            for (int n = 0; n < DOT_COLUMNS; n++) out[r][n] = sum_of(sum[r][n]);                                       \
    }
DOTS(dots, elem, load_part)
DOTS(float_dots, float, load_floats)

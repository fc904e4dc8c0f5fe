/* Small matrix products, operands in cache. */
#pragma once
#include "vectors.h"

/* Rows that are summed at a time, two vectors of columns of each: with the vectors of B and one of A they fill the
 * registers, of which AVX-512 and NEON have 32, AVX2 and SSE 16. */
#if VECTOR_BYTES == 64 || defined(__aarch64__)
enum { TILE_ROWS = 8 };
#else
enum { TILE_ROWS = 6 };
#endif

/* C (M, N) = A (M, K) B (K, N), or += with `add`. A has any strides; rows of B and C are contiguous and padded to
 * LANES. */
#define BLOCK(ROWS)                                                                                                    \
    static inline __attribute__((always_inline)) void block_##ROWS(                                                    \
        int64_t N, int64_t K, const float *A, int64_t am, int64_t ak, const float *B, int64_t ldb, float *C,           \
        int64_t ldc, int add) {                                                                                        \
        int64_t n = 0;                                                                                                 \
        for (; n + 2 * LANES <= N; n += 2 * LANES) {                                                                   \
            vec acc[ROWS][2];                                                                                          \
            for (int r = 0; r < ROWS; r++) {                                                                           \
                acc[r][0] = add ? *(vec *)(C + r * ldc + n) : (vec){0};                                                \
                acc[r][1] = add ? *(vec *)(C + r * ldc + n + LANES) : (vec){0};                                        \
            }                                                                                                          \
            for (int64_t k = 0; k < K; k++) {                                                                          \
                vec b0 = *(vec *)(B + k * ldb + n), b1 = *(vec *)(B + k * ldb + n + LANES);                            \
                _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++) {                                               \
                    float a = A[r * am + k * ak];                                                                      \
                    acc[r][0] += a * b0;                                                                               \
                    acc[r][1] += a * b1;                                                                               \
                }                                                                                                      \
            }                                                                                                          \
            for (int r = 0; r < ROWS; r++) {                                                                           \
                *(vec *)(C + r * ldc + n) = acc[r][0];                                                                 \
                *(vec *)(C + r * ldc + n + LANES) = acc[r][1];                                                         \
            }                                                                                                          \
        }                                                                                                              \
        for (; n < N; n += LANES) {                                                                                    \
            vec acc[ROWS];                                                                                             \
            for (int r = 0; r < ROWS; r++) acc[r] = add ? *(vec *)(C + r * ldc + n) : (vec){0};                        \
            for (int64_t k = 0; k < K; k++) {                                                                          \
                vec b = *(vec *)(B + k * ldb + n);                                                                     \
                _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++) acc[r] += A[r * am + k * ak] * b;               \
            }                                                                                                          \
            for (int r = 0; r < ROWS; r++) *(vec *)(C + r * ldc + n) = acc[r];                                         \
        }                                                                                                              \
    }
BLOCK(1)
BLOCK(2)
BLOCK(4)
BLOCK(6)
BLOCK(8)

static void product(int64_t M, int64_t N, int64_t K, const float *A, int64_t am, int64_t ak, const float *B,
                    int64_t ldb, float *C, int64_t ldc, int add) {
    int64_t m = 0;
#define ROWS_OF(R)                                                                                                     \
    for (; m + R <= M; m += R) block_##R(N, K, A + m * am, am, ak, B, ldb, C + m * ldc, ldc, add);
    if (TILE_ROWS == 8) ROWS_OF(8)
    if (TILE_ROWS == 6) ROWS_OF(6)
    ROWS_OF(4)
    ROWS_OF(2)
    ROWS_OF(1)
}

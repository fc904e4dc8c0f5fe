/* Products of bfloat16 by the tiles of AMX, of weights that were laid out for them once: for prediction.
 *
 * oneDNN's are as fast, but cut their sums up by the number of rows, so that a text's answer would depend on what else
 * is in its batch. Here a sum runs over K in one order, whatever the other rows are. */
#include <stdint.h>
#include <string.h>

#include "rows.h"
#include "vectors.h"

#if defined(BFLOAT16) && defined(__AVX512BF16__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

#define WITH_TILES __attribute__((target("amx-tile,amx-bf16")))
enum {
    TILE = 16,     /* rows of a tile, and float32 columns */
    PAIRS = 32,    /* bfloat16 columns of a tile */
    STRIP = 2 * TILE,
    GROUP = 8 * STRIP, /* columns whose weights stay in the second-level cache while all rows go by */
};

static WITH_TILES void configure(void) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } tiles __attribute__((aligned(64))) = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        tiles.bytes[i] = 64;
        tiles.rows[i] = TILE;
    }
    _tile_loadconfig(&tiles);
}

/* y (32, 32) = x (32, K) w, plus bias; rows of x lie K apart, w is two columns of tiles that lie `column` apart */
static inline WITH_TILES void strip(int64_t K, const elem *x, const elem *w, int64_t column, const float *bias,
                                    elem *y, int64_t N, int64_t rows, int64_t columns) {
    float sums[STRIP * STRIP] __attribute__((aligned(64)));
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    const elem *w1 = columns > TILE ? w + column : w;
    for (int64_t k = 0; k < K; k += PAIRS) {
        _tile_loadd(4, x + k, K * 2);
        _tile_loadd(6, w + k * TILE, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, w1 + k * TILE, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, x + TILE * K + k, K * 2);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, STRIP * 4);
    _tile_stored(1, sums + TILE, STRIP * 4);
    _tile_stored(2, sums + TILE * STRIP, STRIP * 4);
    _tile_stored(3, sums + TILE * STRIP + TILE, STRIP * 4);
    vec shift0 = bias ? load_floats(bias, LANES) : (vec){0};
    vec shift1 = bias && columns > TILE ? load_floats(bias + TILE, LANES) : (vec){0};
    for (int64_t r = 0; r < rows; r++) {
        vec left = *(vec *)(sums + r * STRIP) + shift0, right = *(vec *)(sums + r * STRIP + TILE) + shift1;
        if (columns > TILE)
            _mm512_storeu_si512(y + r * N, (__m512i)_mm512_cvtne2ps_pbh((__m512)right, (__m512)left));
        else
            store(y + r * N, left);
    }
}

/* Whether this process may use tiles: Linux asks to be asked. */
int bertune_tiles_permitted(int threads) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    (void)threads;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) != 0;
}

/* y (M, N) = x (M, K) wᵀ + bias, where there is one. K a multiple of 32 and N of 16.
 * w: (N / 16, K / 32) tiles of (16 pairs of inputs, 16 outputs, 2); bias: (N), float32. */
WITH_TILES int bertune_tile_products(int threads, int64_t M, int64_t N, int64_t K, const elem *x, const elem *w,
                                     const float *bias, elem *y) {
    int64_t down = (M + STRIP - 1) / STRIP, groups = (N + GROUP - 1) / GROUP, column = K * TILE;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        elem *last = (elem *)scratch((size_t)(STRIP * K / 2)); /* rows behind the end are zeros */
        if (!last) failed = 1;
        configure();
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < groups * down; task++) {
            if (!last) continue;
            int64_t m = task % down * STRIP, rows = M - m < STRIP ? M - m : STRIP;
            int64_t from = task / down * GROUP, to = from + GROUP < N ? from + GROUP : N;
            const elem *some = x + m * K;
            if (rows < STRIP) {
                memcpy(last, some, (size_t)(rows * K) * sizeof(elem));
                memset(last + rows * K, 0, (size_t)((STRIP - rows) * K) * sizeof(elem));
                some = last;
            }
            for (int64_t n = from; n < to; n += STRIP)
                strip(K, some, w + n / TILE * column, column, bias ? bias + n : NULL, y + m * N + n, N, rows, to - n);
        }
        _tile_release();
        free(last);
    }
    return failed;
}
#else
int bertune_tiles_permitted(int threads) {
    (void)threads;
    return 1;
}
#endif

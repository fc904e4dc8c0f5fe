/* Softmax attention, head by head; the probabilities are never stored. */
#include "attention_float32.h"
#include "rows.h"
#if defined(BFLOAT16) && defined(__AVX512BF16__)
#include "attention_bfloat16.h"
#endif

/* How a head is computed. room: the working memory for sequences of this length, in floats. */
typedef struct {
    int64_t (*forward_room)(int64_t S, int64_t D);
    int64_t (*backward_room)(int64_t S, int64_t D);
    void (*forward)(head_t h, float *room, elem *out, float *lse);
    void (*backward)(head_t h, float *room, const elem *out, const float *lse, const elem *dout, elem *dqkv);
} route_t;

static const route_t by_float32 = {float32_forward_room, float32_backward_room, float32_forward, float32_backward};

/* Pairs of bfloat16 but for sequences so short that filling up tiles costs more than faster products gain. */
static inline const route_t *route_of(int64_t S, int64_t D) {
#if defined(BFLOAT16) && defined(__AVX512BF16__)
    enum { SHORT = 16 };
    static const route_t by_pairs = {pairs_forward_room, pairs_backward_room, pairs_forward, pairs_backward};
    if (S > SHORT && D % PAIR_COLUMNS == 0) return &by_pairs;
#endif
    (void)S;
    (void)D;
    return &by_float32;
}

/* From the mask of a head to that of the next: far enough that they do not overlap. */
#define MASK_OF_A_HEAD 0x85ebca6bu

static inline float *room_for(int64_t one, int64_t other) { return scratch((size_t)(one > other ? one : other)); }

/* A task is a head of a sequence, whose first row `start` is. mask: where the masks of the sequence's heads begin, or
 * NULL: each head's behind those of the heads before it in the batch. */
static inline head_t head_of(int64_t start, int64_t head, int64_t S, int64_t longest, int64_t stride, int64_t heads,
                             int64_t D, const elem *qkv, const float *row_scale, const float *bias, dropout_t drop,
                             const int64_t *mask) {
    int64_t R = stride ? stride : S, H = heads * D;
    const elem *queries = qkv + start * 3 * H + head * D;
    uint32_t in_batch = (uint32_t)((start * heads + head * R) * longest);
    uint32_t mask_start = mask ? (uint32_t)*mask + (uint32_t)head * MASK_OF_A_HEAD : in_batch;
    head_t h = {S,    R, D, H, heads, queries, row_scale ? row_scale + start : NULL, bias + head * D,
                drop, mask_start, (uint32_t)(mask ? S : longest)};
    return h;
}

/* Softmax attention of every sequence over itself, for a packed or padded token axis.
 * With a stride (padded), padding rows attend too, as in the original, but nothing attends to them.
 * masks, where not NULL, are the numbers that the sequences' dropout masks begin at.
 * qkv (T, 3H) without bias, bias (3H); out (T, H); lse (T, heads): log of every softmax's denominator, for the way
 * back, or NULL. */
int bertune_attention_forward(int threads, int64_t sequences, const int64_t *starts, const int64_t *lengths,
                              int64_t longest, int64_t stride, int64_t heads, int64_t D, const elem *qkv,
                              const float *row_scale, const float *bias, const int64_t *masks, double p, uint64_t seed,
                              elem *out, float *lse) {
    dropout_t drop = dropout_make(seed, p);
    /* a thread takes all heads of a sequence where there are enough */
    int chunk = sequences >= 4 * threads ? (int)heads : 1;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        float *room = room_for(by_float32.forward_room(longest, D), route_of(longest, D)->forward_room(longest, D));
        if (!room) failed = 1;
#pragma omp for schedule(dynamic, chunk)
        for (int64_t task = 0; task < sequences * heads; task++) {
            if (!room) continue;
            int64_t start = starts[task / heads], head = task % heads, S = lengths[task / heads];
            const int64_t *mask = masks ? masks + task / heads : NULL;
            head_t h = head_of(start, head, S, longest, stride, heads, D, qkv, row_scale, bias, drop, mask);
            route_of(S, D)->forward(h, room, out + start * h.H + head * D, lse ? lse + start * heads + head : NULL);
        }
        free(room);
    }
    return failed;
}

/* dqkv (T, 3H) from dout (T, H); the probabilities are computed again from lse. */
int bertune_attention_backward(int threads, int64_t sequences, const int64_t *starts, const int64_t *lengths,
                               int64_t longest, int64_t stride, int64_t heads, int64_t D, const elem *qkv,
                               const float *bias, const int64_t *masks, double p, uint64_t seed, const elem *out,
                               const float *lse, const elem *dout, elem *dqkv) {
    dropout_t drop = dropout_make(seed, p);
    int chunk = sequences >= 4 * threads ? (int)heads : 1;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        float *room = room_for(by_float32.backward_room(longest, D), route_of(longest, D)->backward_room(longest, D));
        if (!room) failed = 1;
#pragma omp for schedule(dynamic, chunk)
        for (int64_t task = 0; task < sequences * heads; task++) {
            if (!room) continue;
            int64_t start = starts[task / heads], head = task % heads, S = lengths[task / heads];
            const int64_t *mask = masks ? masks + task / heads : NULL;
            head_t h = head_of(start, head, S, longest, stride, heads, D, qkv, NULL, bias, drop, mask);
            int64_t place = start * h.H + head * D;
            route_of(S, D)->backward(h, room, out + place, lse + start * heads + head, dout + place,
                                     dqkv + start * 3 * h.H + head * D);
        }
        free(room);
    }
    return failed;
}

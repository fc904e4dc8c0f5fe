/* Calls kernels on behalf of another process: requests on stdin, answers on stdout, both in the machine's byte order.
 *
 * A request is a call_t, its arguments (argument_t each), and the bytes of those that are tensors; the answer is what the
 * kernel returned, as int32_t, and the bytes of the same tensors. See emulated.py. */
#include <stdio.h>
#include <string.h>

#include "kernels.c"

enum { INTEGERS = 20, NUMBERS = 8 };
typedef struct {
    char name[60];
    int32_t arguments;
} call_t;
typedef struct {
    int64_t kind; /* 't' a tensor of `integer` bytes, 'n' none, 'i' a whole number, 'd' another */
    union { int64_t integer; double number; } value;
} argument_t;

/* Every kernel takes whole numbers and pointers (INTEGERS at most) and doubles (NUMBERS at most). The calling convention
 * of aarch64 hands both kinds over apart from each other, so one type of function serves for all of them. */
typedef int (*kernel_t)(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                        int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, double, double,
                        double, double, double, double, double, double);

#define KERNEL(NAME) {#NAME, (kernel_t)(void *)NAME}
static const struct { const char *name; kernel_t kernel; } kernels[] = {
    KERNEL(bertune_dropout),
    KERNEL(bertune_dropout_rows),
    KERNEL(bertune_add_norm_forward),
    KERNEL(bertune_add_norm_backward),
    KERNEL(bertune_bias_activation_forward),
    KERNEL(bertune_bias_activation_backward),
    KERNEL(bertune_bias_activation_quantized),
    KERNEL(bertune_quantize_rows),
    KERNEL(bertune_column_sums),
    KERNEL(bertune_sum_of_squares),
    KERNEL(bertune_attention_forward),
    KERNEL(bertune_attention_backward),
    KERNEL(bertune_adamw),
    KERNEL(bertune_adamw_rows),
};

static void receive(void *to, size_t bytes) {
    if (fread(to, 1, bytes, stdin) != bytes) exit(3);
}

int main(void) {
    call_t call;
    while (fread(&call, sizeof call, 1, stdin) == 1) {
        argument_t arguments[INTEGERS + NUMBERS];
        void *tensors[INTEGERS] = {0};
        int64_t i[INTEGERS] = {0};
        double d[NUMBERS] = {0};
        int integers = 0, numbers = 0;
        receive(arguments, (size_t)call.arguments * sizeof *arguments);
        for (int a = 0; a < call.arguments; a++) {
            argument_t one = arguments[a];
            if (one.kind == 'd') d[numbers++] = one.value.number;
            else if (one.kind == 't') {
                tensors[integers] = scratch((size_t)one.value.integer / sizeof(float) + 1);
                receive(tensors[integers], (size_t)one.value.integer);
                i[integers] = (int64_t)tensors[integers];
                integers++;
            } else i[integers++] = one.value.integer;
        }
        int32_t result = -1;
        for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++)
            if (!strcmp(kernels[k].name, call.name))
                result = kernels[k].kernel(i[0], i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8], i[9], i[10], i[11], i[12],
                                           i[13], i[14], i[15], i[16], i[17], i[18], i[19], d[0], d[1], d[2], d[3], d[4],
                                           d[5], d[6], d[7]);
        fwrite(&result, sizeof result, 1, stdout);
        for (int a = 0, place = 0; a < call.arguments; a++) {
            if (arguments[a].kind == 't') fwrite(tensors[place], 1, (size_t)arguments[a].value.integer, stdout);
            if (arguments[a].kind != 'd') place++;
        }
        fflush(stdout);
        for (int t = 0; t < INTEGERS; t++) free(tensors[t]);
    }
    return 0;
}

/* The C interface of the native kernels: plain pointers and sizes, no torch.
 *
 * A linear layer y = x W^T + b whose weights are integers of 2, 4 or 8 bits, in any number of groups
 * along the inputs. Activations become one to three signed 8-bit digits, so that every product is
 * u8 x s8 with an int32 sum:
 *
 *   v[m,k]   = clamp(round(x[m,k] * multiplier[k] * inverse[m]))      digits: v = sum_d digit_d 256^d
 *   t[m,n,g] = sum over group g of v[m,k] * q[n,k]                    exact sums for each digit,
 *              joined in float, the highest digit first: t = t * 256 + sum_d
 *   y[m,n]   = (sum_g (t[m,n,g] - zero[n,g] * sum_g v) * scale[n,g]) * step[m] + bias[n]
 *
 * in float32, groups in ascending order, each operation rounded by itself (no fused multiply-add).
 * Every level computes the same bits, as does `workbench.ops.digits` in Python.
 *
 * Copyright: see LICENSE.
 */
#ifndef WORKBENCH_KERNELS_H
#define WORKBENCH_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define WB_API __declspec(dllexport)
#else
#define WB_API __attribute__((visibility("default")))
#endif

#define WB_INTERFACE 3 /* raised with every change of a signature or of a packed layout */

enum wb_dtype { WB_F32 = 0, WB_BF16 = 1, WB_F16 = 2, WB_I8 = 3 };
enum wb_activation { WB_NONE = 0, WB_RELU = 1, WB_GELU = 2, WB_GELU_TANH = 3, WB_SILU = 4 };

WB_API int wb_interface(void);

/* The instruction sets this library has code for, from slowest to fastest: 0 .. wb_levels() - 1. */
WB_API int wb_levels(void);
WB_API const char *wb_level_name(int level);
/* NULL where this machine can run `level`, else why it cannot. */
WB_API const char *wb_level_obstacle(int level);
/* The level in use: what WORKBENCH_KERNELS names, else the fastest. Out of range: leaves it. */
WB_API int wb_level(void);
WB_API int wb_set_level(int level);

/* Bytes that `rows` x `columns` weights of `bits` (2, 4, 8) take when packed for the kernels. */
WB_API int64_t wb_packed_bytes(int64_t rows, int64_t columns, int bits);
/* Pack int8 values, row-major [rows, columns], and the reverse. Same layout at every level. */
WB_API void wb_pack(const int8_t *values, int64_t rows, int64_t columns, int bits, uint8_t *packed);
WB_API void wb_unpack(const uint8_t *packed, int64_t rows, int64_t columns, int bits,
                      int8_t *values);

/* One linear layer of several that read the same activations.
 *
 * packed      from wb_pack, [n, k]
 * scale, zero [ceil(n / 16)][groups][16], in panels as the weights are, numbers of rows beyond n
 *             being anything; `zero` of type F32 or I8, or NULL; with one_scale, scale[0] and zero[0]
 *             hold for all
 * bias        [n] of type bias_dtype, or NULL
 * y           [m, n] of type y_dtype, rows `n` apart
 */
struct wb_output {
    const uint8_t *packed;
    int64_t n;
    const float *scale;
    int64_t one_scale;
    const void *zero;
    int64_t zero_dtype;
    const void *bias;
    int64_t bias_dtype, activation;
    void *y;
    int64_t y_dtype;
};

/* What several linear layers share. Like wb_output it has fields of 8 bytes alone, which is what a
 * caller from Python packs fastest.
 *
 * x           [m, k] of type x_dtype, rows `x_stride` elements apart
 * bits        of all their weights, in `groups` groups each
 * multiplier  [k], or [1] with one_multiplier, or NULL
 * step        the static step of the activations [1], their multiplier holding its inverse; or
 *             NULL: each row has its own, max|row| / (largest value of `digits` digits)
 * digits      1, 2 or 3
 */
struct wb_input {
    const void *x;
    int64_t x_dtype, x_stride, m, k, bits, groups;
    const float *multiplier;
    int64_t one_multiplier;
    const float *step;
    int64_t digits, threads;
};

/* `count` linear layers of one x, quantized once; 0, or 1 where a size is not what the kernels can
 * do, or memory ran out. */
WB_API int wb_linears(const struct wb_input *input, const struct wb_output *outputs, int count);

/* Rows of a packed, quantized embedding in float: y[i] = (q[id[i]] - zero) * scale, the numbers as
 * in wb_output. Returns 1 and writes nothing where an id is out of range. */
WB_API int wb_embedding(const int64_t *ids, int64_t count, const uint8_t *packed, int bits,
                        int64_t rows, int64_t columns, int64_t groups, const float *scale,
                        int one_scale, const void *zero, int zero_dtype, void *y, int y_dtype);

/* 8-bit multiply-adds per second of one core at the level in use, operands in its
 * first cache: the ceiling that wb_linears can be measured against. Runs for about `seconds`. */
WB_API double wb_peak(double seconds);

#ifdef __cplusplus
}
#endif
#endif

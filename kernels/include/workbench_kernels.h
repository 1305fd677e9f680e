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
 * Every level computes the same bits, as does `workbench.ops.digits` in Python. An activation function
 * behind it is an approximation, of the same bits at every level too.
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

#define WB_INTERFACE 4 /* raised with every change of a signature or of a packed layout */

enum wb_dtype { WB_F32 = 0, WB_BF16 = 1, WB_F16 = 2, WB_I8 = 3, WB_BOOL = 4 };
enum wb_source_kind { WB_LAYER_NORM = 0, WB_RMS_NORM = 1, WB_PRODUCT = 2 };
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

/* Rows [m, n] that linear layers read, computed from others of the same type just before: the norm
 * of a sum, or a product.
 *
 *   WB_LAYER_NORM, WB_RMS_NORM   sum = x + other;  y = norm(sum) * gain + bias
 *   WB_PRODUCT                   y = x * other
 *
 * x, other    rows `x_stride` and `other_stride` elements apart; `other` may be NULL for norms
 * sum         [m, n], rounded to its type before the norm reads it; or NULL where none is wanted
 * y           [m, n]
 * gain, bias  [n] of types of their own, or NULL
 * round_early whether norm(sum) is rounded to the type of y before it meets its gain
 */
struct wb_source {
    int64_t kind, dtype, m, n;
    const void *x;
    int64_t x_stride;
    const void *other;
    int64_t other_stride;
    void *sum, *y;
    const void *gain;
    int64_t gain_dtype;
    const void *bias;
    int64_t bias_dtype, round_early;
};

/* Only the rows. */
WB_API int wb_rows(const struct wb_source *source, float epsilon, int threads);

/* The rows, and what wb_linears computes of y: `input` says all but x, its type and sizes. */
WB_API int wb_source_linears(const struct wb_source *source, float epsilon,
                             const struct wb_input *input, const struct wb_output *outputs,
                             int count);

/* y = softmax(q k^T * scale + mask) v for each head, in float32 inside.
 *
 * q, k, v     [batch, heads, tokens, depth] of one type with strides for all but the last; q has
 *             `heads` heads, a multiple of the `kv_heads` of k and v, neighbours of which share one
 * mask        [batch, heads, queries, keys], with strides for all but the last, added to scores; or
 *             of WB_BOOL, true where a query sees a key; or NULL
 * causal      query i sees the keys 0 .. i
 * y           [batch, queries, heads, value_depth]: rows as the next layer reads them
 */
struct wb_heads {
    int64_t dtype, batch, heads, kv_heads, queries, keys, depth, value_depth;
    const void *q, *k, *v;
    int64_t q_strides[3], k_strides[3], v_strides[3];
    const void *mask;
    int64_t mask_dtype, mask_strides[3], causal;
    void *y;
};

WB_API int wb_attention(const struct wb_heads *heads, float scale, int threads);

/* Rotary position embedding of each head, as GPT-NeoX and Llama have it: the halves a, b of a head
 * become a * cos - b * sin and b * cos + a * sin, each half with the cosines and sines at its place.
 *
 * x           [batch, heads, tokens, depth], with strides for all but the last; depth is even
 * cos, sin    [batch, tokens, depth] of the type of x, with the same strides for all but the last
 * y           [batch, tokens, heads, depth]
 */
struct wb_rotation {
    int64_t dtype, batch, heads, tokens, depth;
    const void *x;
    int64_t x_strides[3];
    const void *cos, *sin;
    int64_t strides[2];
    void *y;
};

/* `count` of them, one after the other: queries and keys. */
WB_API int wb_rotate(const struct wb_rotation *rotations, int count);

/* One call of a function above, so that many can be made at once.
 *
 * structs     its structs or arrays of them, in the order of its arguments
 * number      its epsilon or scale
 * count       its last argument: a count, or threads
 */
enum wb_function {
    WB_CALL_LINEARS = 0,
    WB_CALL_ROWS = 1,
    WB_CALL_SOURCE_LINEARS = 2,
    WB_CALL_ROTATE = 3,
    WB_CALL_ATTENTION = 4
};
struct wb_call {
    int64_t function;
    const void *structs[3];
    double number;
    int64_t count;
};

/* `count` calls, one after the other, up to one that fails; 0, or that one's place from 1. */
WB_API int wb_run(const struct wb_call *calls, int count);

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

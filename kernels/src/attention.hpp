// Softmax attention in float: scores of a block of queries against all keys they may see, their
// softmax, and the sum of values that it weighs.
#pragma once

#include <omp.h>

#include "linear.hpp"

namespace workbench {
namespace {

constexpr int64_t QUERIES = 4 * QUERY_ROWS;  // in a block, whose scores stay in the first cache
constexpr int64_t KEYS = 16 * COLUMNS;       // in a panel
constexpr int64_t FEW_QUERIES = 8;           // of one head of keys: fewer do not pay for packing

inline int64_t lowest(int64_t a, int64_t b) { return a < b ? a : b; }

// Keys in panels [depth][KEYS] of floats; the last panel ends with zeros.
template <int TYPE>
void pack_keys(const wb_heads &a, const char *k, float *packed) {
    float row[16];
    for (int64_t key = 0; key < a.keys; ++key) {
        float *to = packed + (key / KEYS) * KEYS * a.depth + key % KEYS;
        for (int64_t d = 0; d < a.depth; d += 16) {
            const int count = static_cast<int>(lowest(16, a.depth - d));
            store(row, load_any_some(k, TYPE, key * a.k_strides[2] + d, count));
            for (int i = 0; i < count; ++i) to[(d + i) * KEYS] = row[i];
        }
    }
    for (int64_t key = a.keys; key % KEYS; ++key) {
        float *to = packed + (key / KEYS) * KEYS * a.depth + key % KEYS;
        for (int64_t d = 0; d < a.depth; ++d) to[d * KEYS] = 0;
    }
}

// Rows of values or queries in float, `wide` apart and padded with zeros.
inline void widen(const void *from, int dtype, int64_t stride, int64_t rows, int64_t width,
                  int64_t wide, float *to) {
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t d = 0; d < wide; d += 16) {
            const int count = static_cast<int>(lowest(16, width - d));
            store(to + r * wide + d, load_any_some(from, dtype, r * stride + d, count));
        }
}

// Scores of R queries against one panel of keys.
template <int R>
void score_rows(const float *q, int64_t q_stride, int64_t depth, const float *panel, float *scores,
                int64_t stride) {
    Floats sums[R][COLUMNS];
    WB_EACH(r, R)
        WB_EACH(c, COLUMNS) sums[r][c] = all(0); WB_END
    WB_END
    for (int64_t d = 0; d < depth; ++d) {
        Floats k[COLUMNS];
        WB_EACH(c, COLUMNS) k[c] = load(panel + d * KEYS + c * 16); WB_END
        WB_EACH(r, R)
            const Floats x = all(q[r * q_stride + d]);
            WB_EACH(c, COLUMNS) sums[r][c] = fused(x, k[c], sums[r][c]); WB_END
        WB_END
    }
    WB_EACH(r, R)
        WB_EACH(c, COLUMNS) store(scores + r * stride + c * 16, sums[r][c]); WB_END
    WB_END
}

// The same for keys where they lie: a dot product for each query and key.
template <int TYPE>
void score_directly(const float *q, int64_t q_stride, int64_t rows, const wb_heads &a,
                    const char *k, int64_t keys, float *scores, int64_t stride) {
    for (int64_t key = 0; key < keys; ++key)
        for (int64_t r = 0; r < rows; ++r) {
            Floats sums = all(0);
            for (int64_t d = 0; d < a.depth; d += 16)
                sums = fused(load_any(k, TYPE, key * a.k_strides[2] + d),
                             load(q + r * q_stride + d), sums);
            scores[r * stride + key] = across(sums);
        }
}

// `R` rows of weights times 16 `C` columns of values from column `at` on.
template <int R, int C, int TYPE>
void weigh_rows(const float *weights, int64_t stride, int64_t keys, const void *v, int64_t v_stride,
                int64_t at, float *out, int64_t out_stride) {
    Floats sums[R][C];
    WB_EACH(r, R)
        WB_EACH(c, C) sums[r][c] = all(0); WB_END
    WB_END
    for (int64_t key = 0; key < keys; ++key) {
        Floats x[C];
        WB_EACH(c, C) x[c] = load_any(v, TYPE, key * v_stride + at + c * 16); WB_END
        WB_EACH(r, R)
            const Floats w = all(weights[r * stride + key]);
            WB_EACH(c, C) sums[r][c] = fused(w, x[c], sums[r][c]); WB_END
        WB_END
    }
    WB_EACH(r, R)
        WB_EACH(c, C) store(out + r * out_stride + at + c * 16, sums[r][c]); WB_END
    WB_END
}

template <int R, int TYPE>
void weigh(const float *weights, int64_t stride, int64_t keys, const void *v, int64_t v_stride,
           int64_t width, float *out) {
    int64_t at = 0;
    for (; at + KEYS <= width; at += KEYS)
        weigh_rows<R, COLUMNS, TYPE>(weights, stride, keys, v, v_stride, at, out, width);
    for (; at < width; at += 16)
        weigh_rows<R, 1, TYPE>(weights, stride, keys, v, v_stride, at, out, width);
}

// `f(Index<R>, row)` for all rows, R at a time while they last.
template <int R, class F>
void in_blocks(int64_t row, int64_t rows, const F &f) {
    for (; row + R <= rows; row += R) f(Index<R>(), row);
    if constexpr (R > 1) in_blocks<R / 2>(row, rows, f);
}

// One row of a mask.
struct Mask {
    const char *row;
    int dtype;

    Floats sixteen(int64_t at, int count) const {  // what to add to scores
        if (dtype != WB_BOOL) return load_any_some(row, dtype, at, count);
        if (count == 16) return allowed(reinterpret_cast<const uint8_t *>(row) + at);
        uint8_t bytes[16] = {};
        std::memcpy(bytes, row + at, static_cast<size_t>(count));
        return allowed(bytes);
    }
    // How many keys there are up to the last that is allowed, of `keys`: what follows is not
    // computed, as of a cache that is not full.
    int64_t end(int64_t keys) const {
        for (; keys; keys = (keys - 1) / 16 * 16) {
            const int64_t at = (keys - 1) / 16 * 16;
            const Floats x = sixteen(at, static_cast<int>(keys - at));
            float v[16];
            store(v, x);
            for (int64_t i = keys - at; i > 0; --i)
                if (!(v[i - 1] == -INFINITE)) return at + i;
        }
        return 0;
    }
};

// Scores into weights, up to a factor that is returned: exp(score - highest), and 1 / their sum. A
// row that may see no key has weights of zero, as in torch; one with NaN or infinity has NaN.
inline float softmax_row(float *scores, int64_t keys, int64_t padded, float scale,
                         const Mask *mask) {
    Floats most = all(-INFINITE);
    bool numbers = true;
    for (int64_t k = 0; k < keys; k += 16) {
        const int count = static_cast<int>(lowest(16, keys - k));
        Floats x = mul(load(scores + k), all(scale));
        if (mask) x = add(x, mask->sixteen(k, count));
        store(scores + k, x);
        if (count < 16) {
            for (int64_t i = keys; i < k + 16; ++i) scores[i] = -INFINITE;
            x = load(scores + k);
        }
        numbers = numbers && all_numbers(x);
        most = greater(x, most);
    }
    for (int64_t k = keys; k < padded; ++k) scores[k] = -INFINITE;
    const float highest_score = highest(most);
    if (!numbers || highest_score == INFINITE) return __builtin_nanf("");
    const bool none = highest_score == -INFINITE;
    Floats sums = all(0);
    for (int64_t k = 0; k < padded; k += 16) {
        const Floats x = none ? all(-INFINITE) : sub(load(scores + k), all(highest_score));
        const Floats w = select_negative(add(x, all(87)), all(0), exponential(x));
        store(scores + k, w);
        sums = add(sums, w);
    }
    return none ? 0 : 1 / across(sums);
}

struct Share {  // one head of keys, and which of the queries that read it
    int64_t batch, head, first, end;
};

// Bytes of scratch that a share needs: keys, values, and of a block queries, scores and outputs.
inline int64_t share_floats(const wb_heads &a) {
    const int64_t keys = ceil_div(a.keys, KEYS) * KEYS, deep = ceil_div(a.depth, 16) * 16;
    const int64_t wide = ceil_div(a.value_depth, 16) * 16;
    return keys * (a.depth + wide) + QUERIES * (deep + keys + wide + 1) + 64;
}

template <int TYPE>
int attend(const wb_heads &a, float scale, const Share &s) {
    const int64_t size = TYPE == WB_F32 ? 4 : 2, group = a.heads / a.kv_heads;
    const int64_t padded = ceil_div(a.keys, KEYS) * KEYS, deep = ceil_div(a.depth, 16) * 16;
    const int64_t wide = ceil_div(a.value_depth, 16) * 16;
    const char *k = static_cast<const char *>(a.k) +
                    size * (s.batch * a.k_strides[0] + s.head * a.k_strides[1]);
    const char *v = static_cast<const char *>(a.v) +
                    size * (s.batch * a.v_strides[0] + s.head * a.v_strides[1]);
    float *memory = static_cast<float *>(scratch(0, 4 * share_floats(a)));
    if (!memory) return 1;
    float *queries = memory, *scores = queries + QUERIES * deep, *out = scores + QUERIES * padded;
    float *packed = out + QUERIES * wide, *values = packed + padded * a.depth;

    const bool directly = s.end - s.first <= FEW_QUERIES && deep == a.depth;
    if (!directly) pack_keys<TYPE>(a, k, packed);
    const bool widened = wide != a.value_depth || (TYPE != WB_F32 && !directly);
    if (widened) widen(v, TYPE, a.v_strides[2], a.keys, a.value_depth, wide, values);

    for (int64_t start = s.first, rows; start < s.end; start += rows) {
        // A block may span heads where queries are few, as in decoding.
        rows = lowest(s.end - start, QUERIES);
        float factors[QUERIES];
        int64_t ends[QUERIES], end = 0;
        Mask masks[QUERIES];
        for (int64_t r = 0; r < rows; ++r) {
            const int64_t head = s.head * group + (start + r) / a.queries;
            const int64_t query = (start + r) % a.queries;
            const char *q = static_cast<const char *>(a.q) +
                            size * (s.batch * a.q_strides[0] + head * a.q_strides[1] +
                                    query * a.q_strides[2]);
            widen(q, TYPE, 0, 1, a.depth, deep, queries + r * deep);
            ends[r] = a.causal ? lowest(a.keys, query + 1) : a.keys;
            if (a.mask) {
                const int64_t bytes = a.mask_dtype == WB_BOOL ? 1 : a.mask_dtype == WB_F32 ? 4 : 2;
                masks[r] = {static_cast<const char *>(a.mask) +
                                bytes * (s.batch * a.mask_strides[0] + head * a.mask_strides[1] +
                                         query * a.mask_strides[2]),
                            static_cast<int>(a.mask_dtype)};
                ends[r] = masks[r].end(ends[r]);
            }
            end = end > ends[r] ? end : ends[r];
        }
        if (directly) {
            score_directly<TYPE>(queries, deep, rows, a, k, end, scores, padded);
        } else {
            for (int64_t key = 0; key < end; key += KEYS)
                in_blocks<QUERY_ROWS>(0, rows, [&](auto count, int64_t row) {
                    score_rows<decltype(count)::value>(queries + row * deep, deep, a.depth,
                                                       packed + key * a.depth,
                                                       scores + row * padded + key, padded);
                });
        }
        const int64_t whole = ceil_div(end, 16) * 16;
        for (int64_t r = 0; r < rows; ++r)
            factors[r] = softmax_row(scores + r * padded, ends[r], whole, scale,
                                     a.mask ? &masks[r] : nullptr);
        in_blocks<QUERY_ROWS>(0, rows, [&](auto count, int64_t row) {
            constexpr int R = decltype(count)::value;
            if (widened)
                weigh<R, WB_F32>(scores + row * padded, padded, end, values, wide, wide,
                                 out + row * wide);
            else
                weigh<R, TYPE>(scores + row * padded, padded, end, v, a.v_strides[2], wide,
                               out + row * wide);
        });
        for (int64_t r = 0; r < rows; ++r) {
            const int64_t head = s.head * group + (start + r) / a.queries;
            const int64_t query = (start + r) % a.queries;
            const int64_t to = ((s.batch * a.queries + query) * a.heads + head) * a.value_depth;
            for (int64_t d = 0; d < a.value_depth; d += 16)
                store_any(a.y, TYPE, to + d, mul(load(out + r * wide + d), all(factors[r])),
                          static_cast<int>(lowest(16, a.value_depth - d)));
        }
    }
    return 0;
}

inline int attention(const wb_heads &a, float scale, int threads) {
    constexpr int64_t TINY = 1 << 18;  // multiply-adds below which a second thread costs more
    const int64_t rows = a.heads / a.kv_heads * a.queries, heads = a.batch * a.kv_heads;
    const int64_t work = heads * rows * a.keys * (a.depth + a.value_depth);
    if (work < TINY || threads < 1 || omp_in_parallel()) threads = 1;
    // Where heads do not divide evenly among threads, each head is divided among all of them.
    const int64_t parts = heads % threads ? lowest(threads, ceil_div(rows, QUERIES)) : 1;
    int failed = 0;
    const auto share = [&](int64_t i) {
        const int64_t head = i / parts, part = i % parts;
        const Share s = {head / a.kv_heads, head % a.kv_heads, rows * part / parts,
                         rows * (part + 1) / parts};
        if (a.dtype == WB_F32) return attend<WB_F32>(a, scale, s);
        return a.dtype == WB_BF16 ? attend<WB_BF16>(a, scale, s) : attend<WB_F16>(a, scale, s);
    };
    if (threads == 1) {
        for (int64_t i = 0; i < heads * parts; ++i) failed |= share(i);
        return failed;
    }
#pragma omp parallel for num_threads(threads) schedule(static) reduction(| : failed)
    for (int64_t i = 0; i < heads * parts; ++i) failed |= share(i);
    return failed;
}

}  // namespace
}  // namespace workbench

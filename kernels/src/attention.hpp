// Softmax attention in float: scores of a block of queries against all keys they may see, their
// softmax, and the sum of values that it weighs.
//
// With PAIRS two numbers of bfloat16 lie in a word and are multiplied at once, their products summed in
// float; weights are rounded to it too, by half of what the output is.
#pragma once

#include <omp.h>

#include "linear.hpp"

namespace workbench {
namespace {

constexpr int64_t QUERIES = 4 * QUERY_ROWS;  // in a block, whose scores stay in the first cache
constexpr int64_t KEYS = 16 * COLUMNS;       // in a panel
constexpr int64_t FEW_QUERIES = 8;           // of one head of keys: fewer do not pay for packing

inline int64_t lowest(int64_t a, int64_t b) { return a < b ? a : b; }

// How many words a row of `count` numbers takes.
template <bool PAIRS>
constexpr int64_t words(int64_t count) {
    return PAIRS ? count / 2 : count;
}
template <bool PAIRS>
inline Floats products(const Floats &a, const Floats &b, const Floats &c) {
    if constexpr (PAIRS) return fused_pairs(a, b, c);
    else return fused(a, b, c);
}

// Up to sixteen words of a row.
template <int TYPE, bool PAIRS>
inline Floats load_words(const char *row, int64_t at, int64_t end) {
    const int count = static_cast<int>(lowest(16, end - at));
    if constexpr (PAIRS) {
        const float *words = reinterpret_cast<const float *>(row) + at;
        return count == 16 ? load(words) : load_some(words, count);
    } else {
        return load_any_some(row, TYPE, at, count);
    }
}

// Keys in panels [words of a row][KEYS]; the last panel ends with zeros.
template <int TYPE, bool PAIRS>
void pack_keys(const wb_heads &a, const char *k, float *packed) {
    const int64_t size = TYPE == WB_F32 ? 4 : 2, deep = words<PAIRS>(a.depth);
    for (int64_t key = 0; key < ceil_div(a.keys, KEYS) * KEYS; key += 16) {
        float *to = packed + (key / KEYS) * KEYS * deep + key % KEYS;
        for (int64_t d = 0; d < deep; d += 16) {
            Floats rows[16];
            for (int64_t i = 0; i < 16; ++i)
                rows[i] = key + i < a.keys ? load_words<TYPE, PAIRS>(
                                                 k + (key + i) * a.k_strides[2] * size, d, deep)
                                           : all(0);
            store_turned(rows, lowest(16, deep - d), to + d * KEYS, KEYS);
        }
    }
}

// Rows of values, each word of them of two neighbours.
inline void pair_values(const wb_heads &a, const char *v, int64_t wide, float *to) {
    for (int64_t key = 0; key < a.keys; key += 2)
        for (int64_t d = 0; d < wide; d += 16) {
            const int count = static_cast<int>(lowest(16, a.value_depth - d));
            const auto row = [&](int64_t i) {
                return load_any_some(v, WB_BF16, i * a.v_strides[2] + d, count);
            };
            const Floats first = row(key), second = key + 1 < a.keys ? row(key + 1) : all(0);
            store(to + key / 2 * wide + d, paired(first, second));
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

// Scores of R queries, of `deep` words, against one panel of keys.
template <int R, bool PAIRS>
void score_rows(const float *q, int64_t q_stride, int64_t deep, const float *panel, float *scores,
                int64_t stride) {
    Floats sums[R][COLUMNS];
    WB_EACH(r, R)
        WB_EACH(c, COLUMNS) sums[r][c] = all(0); WB_END
    WB_END
    for (int64_t d = 0; d < deep; ++d) {
        Floats k[COLUMNS];
        WB_EACH(c, COLUMNS) k[c] = load(panel + d * KEYS + c * 16); WB_END
        WB_EACH(r, R)
            const Floats x = all(q[r * q_stride + d]);
            WB_EACH(c, COLUMNS) sums[r][c] = products<PAIRS>(x, k[c], sums[r][c]); WB_END
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

// `R` rows of weights times 16 `C` columns of values from column `at` on; `keys` are words of weights.
template <int R, int C, int TYPE, bool PAIRS>
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
            WB_EACH(c, C) sums[r][c] = products<PAIRS>(w, x[c], sums[r][c]); WB_END
        WB_END
    }
    WB_EACH(r, R)
        WB_EACH(c, C) store(out + r * out_stride + at + c * 16, sums[r][c]); WB_END
    WB_END
}

template <int R, int TYPE, bool PAIRS>
void weigh(const float *weights, int64_t stride, int64_t keys, const void *v, int64_t v_stride,
           int64_t width, float *out) {
    int64_t at = 0;
    for (; at + KEYS <= width; at += KEYS)
        weigh_rows<R, COLUMNS, TYPE, PAIRS>(weights, stride, keys, v, v_stride, at, out, width);
    if constexpr (COLUMNS > 2)
        for (; at + 32 <= width; at += 32)
            weigh_rows<R, 2, TYPE, PAIRS>(weights, stride, keys, v, v_stride, at, out, width);
    for (; at < width; at += 16)
        weigh_rows<R, 1, TYPE, PAIRS>(weights, stride, keys, v, v_stride, at, out, width);
}

// `f(Index<R>, row)` for all rows, R at a time while they last.
template <int R, class F>
void in_blocks(int64_t row, int64_t rows, const F &f) {
    for (; row + R <= rows; row += R) f(Index<R>(), row);
    if constexpr (R > 1) in_blocks<(R > 4 ? 4 : R / 2)>(row, rows, f);
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

// exp(x) for x <= 0, zero from -87 on.
inline Floats weight_of(Floats x) {
    return select_negative(add(x, all(87)), all(0), exponential(x));
}

// Scores of a row times `scale` plus what the mask adds, and the highest of them: no number where one
// is none or is infinite.
inline float scale_row(float *scores, int64_t keys, int64_t padded, float scale, const Mask *mask) {
    Floats most = all(-INFINITE), sum = all(0);
    for (int64_t k = 0; k < keys; k += 16) {
        const int count = static_cast<int>(lowest(16, keys - k));
        Floats x = mul(load(scores + k), all(scale));
        if (mask) x = add(x, mask->sixteen(k, count));
        store(scores + k, x);
        if (count < 16) {
            for (int64_t i = keys; i < k + 16; ++i) scores[i] = -INFINITE;
            x = load(scores + k);
        }
        sum = add(sum, x);  // stays a number but for what is none, or infinity less infinity
        most = greater(x, most);
    }
    for (int64_t k = keys; k < padded; ++k) scores[k] = -INFINITE;
    const float found = highest(most);
    return all_numbers(sum) && found != INFINITE ? found : __builtin_nanf("");
}

// Scores into weights, up to a factor that is returned: exp(score - most), and 1 / their sum. A row that
// may see no key has weights of zero, as in torch; one with NaN or infinity has NaN. Rows are weighted
// after all are scaled: so one does not wait for the other.
template <bool PAIRS>
float weights_of_row(float *scores, int64_t padded, float most) {
    if (most != most) return most;
    const bool none = most == -INFINITE;
    Floats sums = all(0);
    for (int64_t k = 0; k < padded; k += 16) {
        const Floats w = weight_of(none ? all(-INFINITE) : sub(load(scores + k), all(most)));
        if constexpr (PAIRS) store_pairs(scores + k / 2, w);
        else store(scores + k, w);
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

// Whether keys are multiplied where they lie.
inline bool few_queries(const wb_heads &a, const Share &s) {
    return s.end - s.first <= FEW_QUERIES && a.depth % 16 == 0;
}

template <int TYPE, bool PAIRS>
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

    const bool directly = !PAIRS && few_queries(a, s);
    if (!directly) pack_keys<TYPE, PAIRS>(a, k, packed);
    const bool widened = wide != a.value_depth || (TYPE != WB_F32 && !directly);
    if (PAIRS) pair_values(a, v, wide, values);
    else if (widened) widen(v, TYPE, a.v_strides[2], a.keys, a.value_depth, wide, values);

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
            for (int64_t d = 0, end_of_q = words<PAIRS>(a.depth); d < end_of_q; d += 16)
                store(queries + r * deep + d, load_words<TYPE, PAIRS>(q, d, end_of_q));
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
                    score_rows<decltype(count)::value, PAIRS>(
                        queries + row * deep, deep, words<PAIRS>(a.depth),
                        packed + key * words<PAIRS>(a.depth), scores + row * padded + key, padded);
                });
        }
        const int64_t whole = ceil_div(end, 16) * 16;
        for (int64_t r = 0; r < rows; ++r)
            factors[r] = scale_row(scores + r * padded, ends[r], whole, scale,
                                   a.mask ? &masks[r] : nullptr);
        for (int64_t r = 0; r < rows; ++r)
            factors[r] = weights_of_row<PAIRS>(scores + r * padded, whole, factors[r]);
        in_blocks<QUERY_ROWS>(0, rows, [&](auto count, int64_t row) {
            constexpr int R = decltype(count)::value;
            const float *weights = scores + row * padded;
            if (PAIRS || widened)
                weigh<R, WB_F32, PAIRS>(weights, padded, PAIRS ? ceil_div(end, 2) : end, values, wide,
                                        wide, out + row * wide);
            else
                weigh<R, TYPE, false>(weights, padded, end, v, a.v_strides[2], wide,
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
        if (a.dtype == WB_F32) return attend<WB_F32, false>(a, scale, s);
        if (a.dtype == WB_F16) return attend<WB_F16, false>(a, scale, s);
        const bool pairs = HAS_PAIRS && a.depth % 2 == 0 && !few_queries(a, s);
        return pairs ? attend<WB_BF16, HAS_PAIRS>(a, scale, s) : attend<WB_BF16, false>(a, scale, s);
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

// Rows that are computed just before they are quantized: the norm of a sum, or a product. What they
// are rounded to is what separate ops would leave in memory, so nothing but time is saved.
#pragma once

#include <omp.h>

#include "floats.hpp"
#include "fused.hpp"

namespace workbench {
namespace {

// `f(at, count)` for each sixteen numbers of a row, the last of which may be fewer.
template <class F>
inline void sixteens(int64_t n, const F &f) {
    int64_t at = 0;
    for (; at + 16 <= n; at += 16) f(at, 16);
    if (at < n) f(at, static_cast<int>(n - at));
}

// Row `r` of sum and y; `row` holds n floats, padded to sixteen.
inline void fill_row(const Source &s, int64_t r, float *row) {
    const int dtype = static_cast<int>(s.dtype);
    const int64_t x_at = r * s.x_stride, other_at = r * s.other_stride, to = r * s.n;
    if (s.kind == WB_PRODUCT)
        return sixteens(s.n, [&](int64_t at, int count) {
            const Floats x = load_any_some(s.x, dtype, x_at + at, count);
            const Floats factor = load_any_some(s.other, dtype, other_at + at, count);
            store_any(s.y, dtype, to + at, mul(x, factor), count);
        });
    void *sum = s.sum ? s.sum : s.y;  // where it is rounded
    Floats total = all(0);
    sixteens(s.n, [&](int64_t at, int count) {
        Floats x = load_any_some(s.x, dtype, x_at + at, count);
        if (s.other) x = add(x, load_any_some(s.other, dtype, other_at + at, count));
        if (s.other || s.sum) {
            store_any(sum, dtype, to + at, x, count);
            if (dtype != WB_F32) x = load_any_some(sum, dtype, to + at, count);
        }
        store(row + at, x);
        total = add(total, x);
    });
    const float n = static_cast<float>(s.n);
    const Floats mean = all(s.kind == WB_LAYER_NORM ? across(total) / n : 0);
    Floats squares = all(0);
    sixteens(s.n, [&](int64_t at, int count) {
        const Floats from_mean = sub(load(row + at), mean);
        store(row + at, from_mean);
        // Of a last part, lanes without a number hold minus the mean.
        squares = add(squares, count == 16 ? mul(from_mean, from_mean)
                                           : mul(load_some(row + at, count),
                                                 load_some(row + at, count)));
    });
    const Floats by = all(1 / __builtin_sqrtf(across(squares) / n + s.epsilon));
    sixteens(s.n, [&](int64_t at, int count) {
        Floats y = mul(load(row + at), by);
        if (s.round_early && dtype != WB_F32) {
            store_any(s.y, dtype, to + at, y, count);
            y = load_any_some(s.y, dtype, to + at, count);
        }
        if (s.gain) y = mul(y, load_any_some(s.gain, static_cast<int>(s.gain_dtype), at, count));
        if (s.bias) y = add(y, load_any_some(s.bias, static_cast<int>(s.bias_dtype), at, count));
        store_any(s.y, dtype, to + at, y, count);
    });
}

inline int rows_of_source(const Source &s, int threads) {
    constexpr int64_t TINY = 1 << 15;  // numbers below which a second thread costs more
    if (s.m * s.n < TINY || threads < 1 || omp_in_parallel()) threads = 1;
    const int64_t padded = padded_inputs(s.n);
    float *memory = static_cast<float *>(scratch(0, 4 * threads * padded));
    if (!memory) return 1;
    if (threads == 1) {
        for (int64_t r = 0; r < s.m; ++r) fill_row(s, r, memory);
        return 0;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < s.m; ++r) fill_row(s, r, memory + omp_get_thread_num() * padded);
    return 0;
}

}  // namespace
}  // namespace workbench

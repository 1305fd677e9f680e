// Activations into digits: rows of floats in, blocks of signed bytes out (see layout.hpp).
#pragma once

#include <cstring>

#include "layout.hpp"
#include "level.hpp"

namespace workbench {
namespace {

constexpr float LARGEST[] = {0, 127, 32639, 8355711};  // of one, two and three digits
constexpr int OFFSET[] = {0, 0, 2, 0, 8, 0, 0, 0, 128};  // of packed weights, by their bits

struct Activations {
    int8_t *digits;   // blocks
    int32_t *starts;  // [row][digit][group]: what a sum starts with, -offset * sum of digits
    float *sums;      // [row][group]: the sum of v, where weights have zero points
    float *steps;     // [row]
    float *row;       // one row in float for each thread
    int64_t row_floats;
};

inline Floats load_any(const void *p, int dtype, int64_t at) {
    if (dtype == WB_F32) return load(static_cast<const float *>(p) + at);
    const uint16_t *q = static_cast<const uint16_t *>(p) + at;
    return dtype == WB_BF16 ? load_brain(q) : load_half(q);
}

inline Floats load_any_some(const void *p, int dtype, int64_t at, int count) {
    if (count == 16) return load_any(p, dtype, at);
    if (dtype == WB_F32) return load_some(static_cast<const float *>(p) + at, count);
    uint16_t all_of_it[16] = {};
    std::memcpy(all_of_it, static_cast<const uint16_t *>(p) + at, 2 * count);
    return load_any(all_of_it, dtype, 0);
}

inline Floats multiplied(const Linear &c, Floats x, int64_t at, int count) {
    if (!c.multiplier) return x;
    return mul(x, c.one_multiplier ? all(c.multiplier[0])
                                             : load_some(c.multiplier + at, count));
}

// The step of a row: max|row| / largest value, and no number where the row holds one that is none
// or is infinite, so that all of its outputs are none.
inline float step_of(const Linear &c, const float *row, int64_t padded) {
    Floats most = all(0);
    bool numbers = true;
    for (int64_t k = 0; k < padded; k += 16) {
        const Floats x = load(row + k);
        numbers = numbers && all_numbers(x);
        most = greater(absolute(x), most);
    }
    const float step = highest(most) / LARGEST[c.digits];
    const float least = 1e-30f;
    const float kept = step > least ? step : least;
    return numbers ? kept + (kept - kept) : __builtin_nanf("");
}

template <int D>
inline void write_digits(const Linear &c, const Activations &a, int64_t r, float inverse) {
    const int64_t padded = padded_inputs(c.k), per_block = rows_per_block(D);
    const float *row = a.row;
    int8_t *out = a.digits + (r / per_block) * padded * 16 + (r % per_block) * D * 64;
    const Floats low = all(D == 1 ? -128.0f : -LARGEST[D]), high = all(LARGEST[D]);
    const int64_t size = c.k / c.groups;
    int32_t sums[D] = {};
    int64_t group = 0, end = c.groups == 1 ? padded : size;
    const auto finish_group = [&] {
        float whole = 0;
        for (int d = 0; d < D; ++d) {
            a.starts[(r * D + d) * c.groups + group] = -OFFSET[c.bits] * sums[d];
            whole = whole * 256 + static_cast<float>(sums[d]);
            sums[d] = 0;
        }
        a.sums[r * c.groups + group] = whole;
        ++group;
        end += size;
    };
    for (int64_t k = 0; k < padded; k += 16) {
        Floats v = load(row + k);
        if (!c.step) v = mul(v, all(inverse));
        Ints rest = rounded(lesser(greater(numbers_or_zero(v), low), high));
        int8_t *to = out + (k / 64) * TILE + k % 64;
        Ints digit[D];
        for (int d = D - 1; d > 0; --d) {
            digit[d] = low_digit(rest);
            rest = shift_digit(minus(rest, digit[d]));
        }
        digit[0] = rest;
        for (int d = 0; d < D; ++d) {
            store_bytes(to + d * 64, digit[d]);
            if (c.groups == 1 || size % 16 == 0) sums[d] += sum(digit[d]);
        }
        if (c.groups > 1 && size % 16) {  // groups end inside these sixteen
            for (int i = 0; i < 16 && k + i < c.k; ++i) {
                for (int d = 0; d < D; ++d) sums[d] += to[d * 64 + i];
                if (k + i + 1 == end) finish_group();
            }
        } else if (k + 16 >= end && group < c.groups) {
            finish_group();
        }
    }
    while (group < c.groups) finish_group();  // no inputs at all
}

inline void quantize_row(const Linear &c, Activations a, int64_t r) {
    const int64_t padded = padded_inputs(c.k);
    const char *base = static_cast<const char *>(c.x) + r * c.x_stride * (c.x_dtype ? 2 : 4);
    for (int64_t k = 0; k < padded; k += 16) {
        const int count = static_cast<int>(k + 16 <= c.k ? 16 : (k < c.k ? c.k - k : 0));
        store(a.row + k, count ? multiplied(c, load_any_some(base, c.x_dtype, k, count), k, count)
                               : all(0));
    }
    a.steps[r] = c.step ? c.step[0] : step_of(c, a.row, padded);
    const float inverse = 1.0f / a.steps[r];
    if (c.digits == 1) write_digits<1>(c, a, r, inverse);
    if (c.digits == 2) write_digits<2>(c, a, r, inverse);
    if (c.digits == 3) write_digits<3>(c, a, r, inverse);
}

// Rows of a last, partial block that hold no activation: nothing is read of their products.
inline void clear_rest(const Linear &c, const Activations &a) {
    const int64_t per_block = rows_per_block(c.digits), blocks = ceil_div(c.m, per_block);
    const int64_t padded = padded_inputs(c.k);
    const int64_t used = (c.m - (blocks - 1) * per_block) * c.digits;
    int8_t *block = a.digits + (blocks - 1) * padded * 16;
    for (int64_t tile = 0; tile < padded / 64; ++tile)
        std::memset(block + tile * TILE + used * 64, 0, static_cast<size_t>((16 - used) * 64));
}

}  // namespace
}  // namespace workbench

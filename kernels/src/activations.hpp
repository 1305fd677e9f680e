// Activations into digits: rows of floats in, blocks of signed bytes out (see layout.hpp).
#pragma once

#include <cstring>

#include "layout.hpp"
#include "source.hpp"

namespace workbench {
namespace {

constexpr float LARGEST[] = {0, 127, 32639, 8355711};  // of one, two and three digits
constexpr int OFFSET[] = {0, 0, 2, 0, 8, 0, 0, 0, 128};  // of packed weights, by their bits

struct Activations {
    int8_t *digits;   // blocks
    int64_t tile;     // bytes from one tile of a block to the next
    int32_t *starts;  // [row][digit][group]: what a sum starts with, -offset * sum of digits
    float *sums;      // [row][group]: the sum of v, where weights have zero points
    float *steps;     // [row]
    float *row;       // one row in float for each thread

    // Where the first 64 of a digit of a row lie, of `D` digits to a number and `k` inputs.
    template <int D>
    int8_t *digit(int64_t row, int64_t which, int64_t k) const {
        const int64_t per_block = rows_per_block(D);
        return digits + (row / per_block) * padded_inputs(k) * 16 +
               ((row % per_block) * D + which) * 64;
    }
};

inline Floats multiplied(const Input &c, Floats x, int64_t at, int count) {
    if (!c.multiplier) return x;
    return mul(x, c.one_multiplier ? all(c.multiplier[0])
                                             : load_some(c.multiplier + at, count));
}

// One row in float, multiplied and padded with zeros, and the step that its largest number asks for:
// max|row| / largest value; no number where the row holds one that is none or is infinite, so that
// all of its outputs are none.
inline float load_row(const Input &c, const Activations &a, int64_t r) {
    const int64_t padded = padded_inputs(c.k), whole = c.k - c.k % 16;
    const char *base = static_cast<const char *>(c.x) + r * c.x_stride * (c.x_dtype ? 2 : 4);
    float *row = a.row;
    Floats most = all(0), nothing = all(0);
    const auto take = [&](Floats x, int64_t k) {
        store(row + k, x);
        most = greater(absolute(x), most);
        nothing = add(nothing, sub(x, x));  // stays zero but for infinity and what is no number
    };
    for (int64_t k = 0; k < whole; k += 16)
        take(multiplied(c, load_any(base, c.x_dtype, k), k, 16), k);
    if (whole < c.k) {
        const int count = static_cast<int>(c.k - whole);
        take(multiplied(c, load_any_some(base, c.x_dtype, whole, count), whole, count), whole);
    }
    for (int64_t k = whole + (whole < c.k ? 16 : 0); k < padded; k += 16) store(row + k, all(0));
    const float step = highest(most) / LARGEST[c.digits], least = 1e-30f;
    return all_numbers(nothing) ? (step > least ? step : least) : __builtin_nanf("");
}

template <int D, bool STATIC>
inline void write_digits(const Input &c, const Activations &a, int64_t r) {
    const int64_t padded = padded_inputs(c.k), tile = a.tile;
    // Stores of bytes may alias anything: what the loop reads is copied first.
    const int64_t groups = c.groups, size = c.k / groups;
    const bool apart = groups > 1 && size % 16;  // groups end inside of sixteen
    const float *row = a.row;
    int8_t *out = a.digit<D>(r, 0, c.k);
    const Floats low = all(D == 1 ? -128.0f : -LARGEST[D]), high = all(LARGEST[D]);
    const bool numbers = a.steps[r] == a.steps[r];
    const Floats inverse = all(numbers ? 1.0f / a.steps[r] : 0.0f);
    const auto finish_group = [&](int64_t group, const int32_t (&totals)[D]) {
        float whole = 0;
        for (int d = 0; d < D; ++d) {
            a.starts[(r * D + d) * groups + group] = -OFFSET[c.bits] * totals[d];
            whole = whole * 256 + static_cast<float>(totals[d]);
        }
        a.sums[r * groups + group] = whole;
    };
    Ints sums[D];
    for (int d = 0; d < D; ++d) sums[d] = no_ints();
    const auto totals = [&](int32_t (&to)[D]) __attribute__((always_inline)) {
        for (int d = 0; d < D; ++d) {
            to[d] = sum(sums[d]);
            sums[d] = no_ints();
        }
    };
    int32_t found[D];
    for (int64_t k = 0, group = 0, end = size; k < padded; k += 16) {
        Floats v = load(row + k);
        if (STATIC) v = numbers_or_zero(v);
        else v = mul(v, inverse);
        if (STATIC || D > 1) v = lesser(greater(v, low), high);  // one digit of its own row fits
        Ints rest = rounded(v);
        int8_t *to = out + digit_at(k, tile);
        for (int d = D - 1; d >= 0; --d) {
            const Ints digit = d ? low_digit(rest) : rest;
            rest = shift_digit(minus(rest, digit));
            store_bytes(to + d * 64, digit);
            if (!apart) sums[d] = plus(sums[d], digit);
        }
        if (groups > 1 && !apart && k + 16 == end && group < groups) {
            totals(found);
            finish_group(group++, found);
            end += size;
        }
    }
    if (groups == 1) {
        totals(found);
        finish_group(0, found);
    }
    for (int64_t k = 0, group = 0; apart && group < groups; ++group) {
        for (int d = 0; d < D; ++d) found[d] = 0;
        for (const int64_t end = k + size; k < end; ++k)
            for (int d = 0; d < D; ++d) found[d] += out[digit_at(k, tile) + d * 64];
        finish_group(group, found);
    }
}

inline void quantize_row(const Input &c, Activations a, int64_t r) {
    if (c.source) fill_row(*c.source, r, a.row);
    const float step = load_row(c, a, r);
    a.steps[r] = c.step ? c.step[0] : step;
    if (!c.step && step != step)  // its outputs are no numbers, whatever its digits
        std::memset(a.row, 0, static_cast<size_t>(padded_inputs(c.k)) * sizeof *a.row);
    if (c.digits == 1) c.step ? write_digits<1, true>(c, a, r) : write_digits<1, false>(c, a, r);
    if (c.digits == 2) c.step ? write_digits<2, true>(c, a, r) : write_digits<2, false>(c, a, r);
    if (c.digits == 3) c.step ? write_digits<3, true>(c, a, r) : write_digits<3, false>(c, a, r);
}

// Rows of a last, partial block that hold no activation: nothing is read of their products.
inline void clear_rest(const Input &c, const Activations &a) {
    const int64_t per_block = rows_per_block(c.digits), blocks = ceil_div(c.m, per_block);
    const int64_t padded = padded_inputs(c.k);
    const int64_t used = (c.m - (blocks - 1) * per_block) * c.digits, all_of_it = a.tile / 64;
    int8_t *block = a.digits + (blocks - 1) * padded * 16;
    for (int64_t tile = 0; tile < padded / 64; ++tile)
        std::memset(block + tile * a.tile + used * 64, 0,
                    static_cast<size_t>((all_of_it - used) * 64));
}

}  // namespace
}  // namespace workbench

// From sums to outputs: scales, bias, activation function, number type.
#pragma once

#include <cstring>

#include "activations.hpp"

namespace workbench {
namespace {

// exp(x) by 2^n * e^r, |r| <= ln(2)/2, the polynomial of Cephes' expf: relative error below 2e-7.
inline Floats exponential(Floats x) {
    x = lesser(greater(x, all(-87.3f)), all(88.0f));
    const Floats n = to_floats(rounded(mul(x, all(1.44269504f))));
    const Floats r = fma(n, all(2.12194440e-4f), fma(n, all(-0.693359375f), x));
    Floats p = all(1.9875691500e-4f);
    constexpr float TERMS[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f,
                               1.6666665459e-1f, 5.0000001201e-1f};
    for (const float term : TERMS) p = fma(p, r, all(term));
    p = add(fma(mul(p, r), r, r), all(1));
    return mul(p, two_to(n));
}

inline Floats sigmoid(Floats x) { return divide(all(1), add(all(1), exponential(sub(all(0), x)))); }

// The probability that a normal number is below x, |x| <= 5.5: 1/2 + x P(x^2) / Q(x^2), fitted by
// least squares with weights that even the error out, to 8e-9 before rounding.
inline Floats normal_below(Floats x) {
    constexpr float ABOVE[] = {6.3521307665095e-6f, 1.688273520516713e-4f, 4.677270939496544e-3f,
                               3.385280943628963e-2f, 0.39894223462308676f};
    constexpr float BELOW[] = {7.364804603549566e-5f, 1.8844543731461457e-3f, 2.8645965587581267e-2f,
                               0.2515223276259989f, 1.0f};
    const Floats z = mul(x, x);
    Floats p = all(2.2749289374098957e-8f), q = all(1.1975026548110945e-6f);
    for (int i = 0; i < 5; ++i) {
        p = fma(p, z, all(ABOVE[i]));
        q = fma(q, z, all(BELOW[i]));
    }
    return add(all(0.5f), divide(mul(x, p), q));
}

inline Floats activated(Floats x, int activation) {
    switch (activation) {
        case WB_RELU: return greater(all(0), x);  // no number stays none
        case WB_GELU: {  // below -5.5 what is left, 1e-7, would be multiplied by x
            constexpr float FAR = 5.5f;
            return mul(greater(all(-FAR), x), normal_below(lesser(greater(x, all(-FAR)), all(FAR))));
        }
        case WB_GELU_TANH: {  // tanh(u) = 2 sigmoid(2u) - 1
            const Floats cube = mul(mul(x, x), x);
            const Floats u = mul(all(0.79788456f), add(x, mul(all(0.044715f), cube)));
            return mul(greater(all(-88), x), sigmoid(add(u, u)));
        }
        // Far below, x is cut off where the product is zero, or 1e38 times what is left would not be.
        case WB_SILU: return mul(greater(all(-88), x), sigmoid(x));
        default: return x;
    }
}

// A panel of sixteen outputs, of which `count` exist.
struct Columns {
    const Linear &c;
    int64_t at;
    int count;

    Floats scale(int64_t group) const {
        return c.one_scale ? all(c.scale[0]) : load(c.scale + number_at(at, group, c.groups));
    }
    Floats zero(int64_t group) const {
        if (!c.zero) return all(0);
        const int64_t first = c.one_scale ? 0 : number_at(at, group, c.groups);
        if (c.zero_dtype == WB_F32) {
            const float *zero = static_cast<const float *>(c.zero) + first;
            return c.one_scale ? all(*zero) : load(zero);
        }
        const int8_t *zero = static_cast<const int8_t *>(c.zero) + first;
        return c.one_scale ? all(*zero) : to_floats(load_bytes(zero));
    }
    void finish(Floats v, int64_t row, float step) const {
        v = mul(v, all(step));
        if (c.bias) v = add(v, load_any_some(c.bias, static_cast<int>(c.bias_dtype), at, count));
        if (c.activation) v = activated(v, static_cast<int>(c.activation));
        store_any(c.y, static_cast<int>(c.y_dtype), row * c.n + at, v, count);
    }
};

inline Columns columns(const Linear &c, int64_t panel) {
    const int64_t at = panel * LANES, left = c.n - at;
    return {c, at, static_cast<int>(left < LANES ? left : LANES)};
}

// Sums of one digit and one group become outputs: of `rows` rows from `row` on and `many` panels from
// `panel` on, what finish_group does with each, every choice made before the loops. The sums of a row
// are `apart` numbers from those of the next.
template <int ACTIVATION, int TYPE>
__attribute__((noinline)) void finish_all(const Linear &c, const Activations &a, int64_t row,
                                          int64_t rows, int64_t panel, int64_t many,
                                          const int32_t *sums, int64_t apart) {
    const float *steps = a.steps + row, *sums_of_x = c.zero ? a.sums + row : nullptr;
    void *const y = c.y;
    const int64_t n = c.n;
    for (int64_t p = 0; p < many; ++p) {
        const Columns to = columns(c, panel + p);
        const Floats scale = to.scale(0), zero = sums_of_x ? to.zero(0) : all(0);
        // Minus zero is what changes nothing, zeros of either sign included.
        const Floats bias = c.bias ? load_any_some(c.bias, static_cast<int>(c.bias_dtype), to.at,
                                                   to.count)
                                   : all(-0.0f);
        for (int64_t r = 0; r < rows; ++r) {
            Floats t = to_floats(load_ints(sums + p * LANES + r * apart));
            if (sums_of_x) t = sub(t, mul(zero, all(sums_of_x[r])));
            t = add(mul(mul(t, scale), all(steps[r])), bias);
            store_any(y, TYPE, (row + r) * n + to.at, activated(t, ACTIVATION), to.count);
        }
    }
}

using Finish = void (*)(const Linear &, const Activations &, int64_t row, int64_t rows, int64_t panel,
                        int64_t many, const int32_t *sums, int64_t apart);

template <int ACTIVATION>
constexpr Finish FINISH[] = {finish_all<ACTIVATION, WB_F32>, finish_all<ACTIVATION, WB_BF16>,
                             finish_all<ACTIVATION, WB_F16>};

inline void finish_rows(const Linear &c, const Activations &a, int64_t row, int64_t rows,
                        int64_t panel, int64_t many, const int32_t *sums, int64_t apart) {
    constexpr const Finish *OF[] = {FINISH<WB_NONE>, FINISH<WB_RELU>, FINISH<WB_GELU>,
                                    FINISH<WB_GELU_TANH>, FINISH<WB_SILU>};
    OF[c.activation][c.y_dtype](c, a, row, rows, panel, many, sums, apart);
}

// Group `g` of one row and panel: its exact sums, one for each digit and `apart` numbers apart, join
// what earlier groups left in `kept`; the last group makes the outputs.
template <int D>
inline void finish_group(const Columns &to, const Activations &a, int64_t g, Floats scale,
                         Floats zero, int64_t row, const int32_t *sums, int64_t apart,
                         float *kept) {
    Floats t = to_floats(load_ints(sums));
    for (int d = 1; d < D; ++d) t = add(mul(t, all(256)), to_floats(load_ints(sums + d * apart)));
    if (to.c.zero) t = sub(t, mul(zero, all(a.sums[row * to.c.groups + g])));
    t = mul(t, scale);
    if (g) t = add(load(kept), t);
    if (g + 1 == to.c.groups) to.finish(t, row, a.steps[row]);
    else store(kept, t);
}

}  // namespace
}  // namespace workbench

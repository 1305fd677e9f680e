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
    Floats r = sub(x, mul(n, all(0.693359375f)));
    r = add(r, mul(n, all(2.12194440e-4f)));
    Floats p = all(1.9875691500e-4f);
    constexpr float TERMS[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f,
                               1.6666665459e-1f, 5.0000001201e-1f};
    for (const float term : TERMS) p = add(mul(p, r), all(term));
    p = add(add(mul(mul(p, r), r), r), all(1));
    return mul(p, two_to(n));
}

inline Floats sigmoid(Floats x) { return divide(all(1), add(all(1), exponential(sub(all(0), x)))); }

// The error function for x >= 0: Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7.
inline Floats error_function(Floats x) {
    const Floats t = divide(all(1), add(all(1), mul(all(0.3275911f), x)));
    Floats p = all(1.061405429f);
    constexpr float TERMS[] = {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f};
    for (const float term : TERMS) p = add(mul(p, t), all(term));
    return sub(all(1), mul(mul(p, t), exponential(sub(all(0), mul(x, x)))));
}

inline Floats activated(Floats x, int activation) {
    switch (activation) {
        case WB_RELU: return greater(all(0), x);  // no number stays none
        case WB_GELU: {
            const Floats e = error_function(absolute(mul(x, all(0.70710678f))));
            const Floats phi = mul(all(0.5f), add(all(1), select_negative(x, sub(all(0), e), e)));
            return mul(x, phi);
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

// Every level against a plain triple loop, at sizes that no block divides, in buffers with no byte to
// spare: what the sanitizers look at. Prints each level and how many layers it computed.
#include <cmath>

#include "fused.hpp"
#include "numbers.hpp"

namespace {

struct Layer {
    int64_t m, n, k, groups, stride;
    int bits, digits, activation, threads;
    bool one_scale, one_multiplier;
    Numbers x, bias, zero;
    int y_dtype;
    std::vector<int8_t> q;
    std::vector<uint8_t> packed;
    std::vector<float> scale, multiplier, step;
};

// Where the scale and the zero point of a row and group lie.
int64_t number_at(const Layer &l, int64_t row, int64_t group) {
    return l.one_scale ? 0 : (row / 16 * l.groups + group) * 16 + row % 16;
}

Layer a_layer(int64_t m, int bits, int digits) {
    const int64_t line = 32 / bits, n = any(1, 70);
    const int64_t groups = one_of({1, 1, 2, 3, 5});
    const int64_t k = groups == 1 ? any(0, 200) : groups * line * any(1, 9);
    const int64_t stride = k + one_of({0, 0, 3});
    const bool one_scale = !any(0, 3);
    const int64_t scales = one_scale ? 1 : (n + 15) / 16 * 16 * groups, inputs = m ? (m - 1) * stride + k : 0;
    Layer l{m, n, k, groups, stride, bits, digits, any(WB_NONE, WB_SILU), any(1, 8), one_scale,
            !any(0, 1), Numbers(any(0, 2), inputs), Numbers(any(0, 2), any(0, 1) ? n : 0),
            Numbers(one_of({WB_F32, WB_I8}), any(0, 1) ? scales : 0), any(0, 2), {}, {}, {}, {}, {}};
    const int least = -(1 << (bits - 1)), most = -least - 1;
    const bool extreme = !any(0, 4);
    for (int64_t i = 0; i < n * k; ++i)
        l.q.push_back(static_cast<int8_t>(extreme ? one_of({least, most}) : any(least, most)));
    for (int64_t i = 0; i < inputs; ++i)
        l.x.set(i, extreme ? one_of({-9.0f, 9.0f}) : normal());
    for (int64_t i = 0; l.bias && i < n; ++i) l.bias.set(i, normal());
    for (int64_t i = 0; i < scales; ++i) {
        l.scale.push_back(any(0, 9) ? 0.01f + 0.001f * normal() : 0.0f);
        if (l.zero) l.zero.set(i, static_cast<float>(any(least, most)));
    }
    const bool fixed = any(0, 1);
    if (fixed) l.step.push_back(0.05f);
    if (fixed || any(0, 1))
        for (int64_t i = 0; i < (l.one_multiplier ? 1 : k); ++i)
            l.multiplier.push_back((fixed ? 20.0f : 1.0f) * (l.one_multiplier ? 1 : 1 + normal()));
    if (m && k) {  // what must stay in its own row
        const int64_t at = any(0, static_cast<int>(m) - 1) * stride + any(0, static_cast<int>(k) - 1);
        l.x.set(at, one_of({1.0f, 0.0f, 1e-40f, INFINITY, -INFINITY, NAN, 1e30f}));
    }
    l.packed.resize(static_cast<size_t>(wb_packed_bytes(n, k, bits)));
    wb_pack(l.q.data(), n, k, bits, l.packed.data());
    return l;
}

wb_input described(const Layer &l) {
    return {l.x.bytes.data(), l.x.dtype, l.stride, l.m, l.k, l.bits, l.groups, or_null(l.multiplier),
            l.one_multiplier, or_null(l.step), l.digits, l.threads};
}

wb_output described(const Layer &l, Numbers &y) {
    return {l.packed.data(), l.n, l.scale.data(), l.one_scale, or_null(l.zero.bytes), l.zero.dtype,
            or_null(l.bias.bytes), l.bias.dtype, l.activation, y.bytes.data(), l.y_dtype};
}

// The layer, or nothing where two of it that share their activations differ.
Numbers computed(const Layer &l) {
    Numbers y(l.y_dtype, l.m * l.n), again = y;
    const wb_output outputs[2] = {described(l, y), described(l, again)};
    const wb_input input = described(l);
    const wb_call call = {WB_CALL_LINEARS, {&input, outputs, nullptr}, 0, 2};
    if (any(0, 1) ? wb_linears(&input, outputs, 2) : wb_run(&call, 1))
        std::printf("refused: m %ld n %ld k %ld groups %ld\n", long(l.m), long(l.n), long(l.k),
                    long(l.groups));
    return y.bytes == again.bytes ? y : Numbers(l.y_dtype, l.m * l.n);
}

double exactly(double x, int activation) {
    switch (activation) {
        case WB_RELU: return x > 0 || x != x ? x : 0;
        case WB_GELU: return x * 0.5 * std::erfc(-x * std::sqrt(0.5));
        case WB_GELU_TANH:
            return x * 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
        case WB_SILU: return x / (1 + std::exp(-x));
        default: return x;
    }
}

// The formula of workbench_kernels.h, one number at a time, in the order it prescribes.
Numbers expected(const Layer &l) {
    const float largest = l.digits == 1 ? 127.0f : l.digits == 2 ? 32639.0f : 8355711.0f;
    const float least = l.digits == 1 ? -128.0f : -largest;
    const int64_t size = l.k / l.groups;
    Numbers y(l.y_dtype, l.m * l.n);
    std::vector<float> row(static_cast<size_t>(l.k));
    std::vector<int> digit(static_cast<size_t>(l.k * l.digits));
    for (int64_t m = 0; m < l.m; ++m) {
        float most = 0, step;
        for (int64_t k = 0; k < l.k; ++k) {
            const float by = l.multiplier.empty() ? 1 : l.multiplier[l.one_multiplier ? 0 : k];
            row[k] = l.x[m * l.stride + k] * by;
            if (!(std::fabs(row[k]) <= most)) most = most != most ? most : std::fabs(row[k]);
        }
        step = std::isfinite(most) ? std::fmax(most / largest, 1e-30f) : NAN;
        if (!l.step.empty()) step = l.step[0];
        for (int64_t k = 0; k < l.k; ++k) {
            float v = l.step.empty() ? row[k] * (1 / step) : row[k];
            v = v != v ? 0 : std::fmax(least, std::fmin(largest, v));
            long rest = std::lrint(v);
            for (int d = l.digits - 1; d > 0; --d) {
                digit[k * l.digits + d] = static_cast<int8_t>(rest);
                rest = (rest - digit[k * l.digits + d]) / 256;
            }
            digit[k * l.digits] = static_cast<int>(rest);
        }
        for (int64_t n = 0; n < l.n; ++n) {
            float total = 0;
            for (int64_t g = 0; g < l.groups; ++g) {
                float t = 0, sum = 0;
                for (int d = 0; d < l.digits; ++d) {
                    int64_t products = 0, digits = 0;
                    for (int64_t k = g * size; k < (g + 1) * size; ++k) {
                        products += digit[k * l.digits + d] * l.q[n * l.k + k];
                        digits += digit[k * l.digits + d];
                    }
                    t = t * 256 + static_cast<float>(products);
                    sum = sum * 256 + static_cast<float>(digits);
                }
                const int64_t at = number_at(l, n, g);
                if (l.zero) t -= l.zero[at] * sum;
                t *= l.scale[at];
                total = g ? total + t : t;
            }
            total *= step;
            if (l.bias) total += l.bias[n];
            y.set(m * l.n + n, static_cast<float>(exactly(total, l.activation)));
        }
    }
    return y;
}

// Equal to the bit; with an activation function of approximations, to its error and one rounding.
bool agrees(const Layer &l, const Numbers &found, const Numbers &wanted) {
    const bool approximate = l.activation > WB_RELU;
    const float rounding = l.y_dtype == WB_F32 ? 4e-6f : l.y_dtype == WB_F16 ? 1e-3f : 8e-3f;
    for (int64_t i = 0; i < l.m * l.n; ++i) {
        const float a = found[i], b = wanted[i];
        if (a == b || (a != a && b != b)) continue;
        if (approximate && std::fabs(a - b) <= rounding * std::fabs(b) + 1e-6f) continue;
        std::printf(
            "%s: m %ld n %ld k %ld groups %ld bits %d digits %d activation %d x %d y %d threads %d "
            "static %d: y[%ld, %ld] is %.9g, not %.9g\n",
            wb_level_name(wb_level()), long(l.m), long(l.n), long(l.k), long(l.groups), l.bits,
            l.digits, l.activation, l.x.dtype, l.y_dtype, l.threads, int(l.step.size()),
            long(i / l.n), long(i % l.n), a, b);
        return false;
    }
    return true;
}

bool unpacks(const Layer &l) {
    std::vector<int8_t> back(l.q.size());
    wb_unpack(l.packed.data(), l.n, l.k, l.bits, back.data());
    return back == l.q;
}

bool embeds(const Layer &l) {
    std::vector<int64_t> ids;
    for (int i = 0; i < 5; ++i) ids.push_back(any(0, static_cast<int>(l.n) - 1));
    Numbers y(l.y_dtype, 5 * l.k), wanted(l.y_dtype, 5 * l.k);
    for (int64_t i = 0; i < 5 * l.k; ++i) {
        const int64_t row = ids[i / l.k], k = i % l.k;
        const int64_t at = number_at(l, row, k / (l.k / l.groups));
        const float zero = l.zero ? l.zero[at] : 0;
        wanted.set(i, (static_cast<float>(l.q[row * l.k + k]) - zero) * l.scale[at]);
    }
    const int refused =
        wb_embedding(ids.data(), 5, l.packed.data(), l.bits, l.n, l.k, l.groups, l.scale.data(),
                     l.one_scale, or_null(l.zero.bytes), l.zero.dtype, y.bytes.data(), l.y_dtype);
    const int64_t beyond = l.n;
    return !refused && same(y, wanted, 5 * l.k) &&
           wb_embedding(&beyond, 1, l.packed.data(), l.bits, l.n, l.k, l.groups, l.scale.data(),
                        l.one_scale, nullptr, 0, y.bytes.data(), l.y_dtype) == 1;
}

// Rows that are computed as the layer quantizes them: what each alone gives, to the bit.
bool joins(Layer l, const Rows &r) {
    const int dtype = r.x.dtype;
    Numbers y(dtype, l.m * l.k), sum = y, rows = y, sums = y;
    Numbers found(l.y_dtype, l.m * l.n), wanted = found;
    const wb_source alone = described(r, rows, sums), joined = described(r, y, sum);
    const wb_output output = described(l, found), apart = described(l, wanted);
    wb_input input = described(l);
    if (wb_source_linears(&joined, r.epsilon, &input, &output, 1) ||
        wb_rows(&alone, r.epsilon, r.threads))
        return wrong("refused rows of a layer", l.k, 0, 0);
    input.x = rows.bytes.data(), input.x_dtype = dtype, input.x_stride = l.k;
    if (wb_linears(&input, &apart, 1)) return wrong("refused layer", l.k, 0, 0);
    return (same(y, rows, l.m * l.k) && same(sum, sums, l.m * l.k) &&
            same(found, wanted, l.m * l.n)) ||
           wrong("a layer and its rows", l.m, 0, 0);
}

}  // namespace

int main() {
    // Rows of no numbers come first: a thread that computed nothing yet has no memory to do it in.
    int failures = !computes(some_rows(3, 0)), count = 0;
    for (int64_t m = 0; m <= 70; ++m)
        for (const int bits : {2, 4, 8})
            for (const int digits : {1, 2, 3}) {
                Layer layer = a_layer(m, bits, digits);
                const Numbers wanted = expected(layer);
                if (!unpacks(layer)) ++failures, std::printf("unpacking differs\n");
                if (!embeds(layer)) ++failures, std::printf("embedding differs\n");
                std::vector<Numbers> by_level;
                for (int level = 0; level < wb_levels(); ++level) {
                    if (wb_level_obstacle(level)) continue;
                    wb_set_level(level);
                    by_level.push_back(computed(layer));
                    failures += !agrees(layer, by_level.back(), wanted);
                    if (!same(by_level.back(), by_level.front(), layer.m * layer.n))
                        ++failures, std::printf("%s differs from the first level\n",
                                                wb_level_name(level));
                }
                ++count;
            }
    int fused = 0;
    for (; fused < 600; ++fused) {
        const Heads heads = some_heads();
        const Rotation rotation = a_rotation();
        const int64_t m = one_of({0, 1, 2, 5, 33, 300}), n = one_of({0, 1, 15, 16, 17, 50, 200});
        const Rows rows = some_rows(m, n);
        const Layer layer = a_layer(any(0, 40), one_of({2, 4, 8}), any(1, 3));
        const Rows before = some_rows(layer.m, layer.k);
        for (int level = 0; level < wb_levels(); ++level) {
            if (wb_level_obstacle(level)) continue;
            wb_set_level(level);
            failures += !attends(heads);
            failures += !rotates(rotation);
            failures += !computes(rows);
            failures += !joins(layer, before);
        }
    }
    for (int level = 0; level < wb_levels(); ++level) {
        const char *obstacle = wb_level_obstacle(level);
        std::printf("%s: %s\n", wb_level_name(level), obstacle ? obstacle : "run");
    }
    std::printf("%d layers and %d of each fused op at each level, %d failures\n", count, fused,
                failures);
    return failures != 0;
}

// What compiled models run between layers, against plain loops: attention, rows and rotation. Each
// checker prints where the level in use is wrong and says whether it was right.
#pragma once

#include <cmath>

#include "numbers.hpp"

namespace {

constexpr double ROUNDING[] = {0x1p-24, 0x1p-8, 0x1p-11};  // of a number, to each float type
constexpr double SUMS = 0x1p-18;  // of the roundings of a long sum in F32, and of an exponential

// [batch, heads, tokens, depth] in memory [batch][heads][tokens] or [batch][tokens][heads], whose rows
// may end with numbers that belong to nobody.
struct Strided {
    int64_t sizes[4], strides[3];
    Numbers numbers;

    Strided(int dtype, int64_t batch, int64_t heads, int64_t tokens, int64_t depth)
        : sizes{batch, heads, tokens, depth}, strides{}, numbers(dtype, 0) {
        const int64_t row = depth + one_of({0, 0, 3});
        const bool heads_first = any(0, 1);
        strides[0] = heads * tokens * row;
        strides[1] = heads_first ? tokens * row : row;
        strides[2] = heads_first ? row : heads * row;
        fill();
    }
    void fill() {
        numbers = Numbers(numbers.dtype, count());
        for (int64_t i = 0; i < count(); ++i) numbers.set(i, normal());
    }
    int64_t count() const {
        int64_t last = sizes[3];
        for (int i = 0; i < 3; ++i) {
            if (!sizes[i]) return 0;
            last += (sizes[i] - 1) * strides[i];
        }
        return sizes[3] ? last : 0;
    }
    int64_t at(int64_t batch, int64_t head, int64_t token, int64_t d) const {
        return batch * strides[0] + head * strides[1] + token * strides[2] + d;
    }
    float operator()(int64_t batch, int64_t head, int64_t token, int64_t d) const {
        return numbers[at(batch, head, token, d)];
    }
};

bool wrong(const char *what, int64_t at, float found, double wanted) {
    std::printf("%s: %s[%ld] is %.9g, not %.9g\n", wb_level_name(wb_level()), what, long(at), found,
                wanted);
    return false;
}

struct Heads {
    int dtype;
    int64_t batch, kv_heads, heads, queries, keys, depth, value_depth;
    Strided q, k, v, mask;
    bool masked, causal;
    float scale;
    int threads;
};

Heads some_heads() {
    const int dtype = any(0, 2);
    const int64_t batch = one_of({0, 1, 1, 2, 3});
    const int64_t kv_heads = any(1, 3), heads = kv_heads * any(1, 4);
    const int64_t queries = one_of({0, 1, 1, 2, 7, 8, 33, 70});
    const int64_t keys = one_of({0, 1, 5, 16, 17, 64, 101});
    const int64_t depth = one_of({1, 2, 15, 16, 17, 32, 64, 80});
    const int64_t value_depth = one_of({1, 15, 16, 17, 48, 64, 130});
    const bool masked = any(0, 1);
    Heads h{dtype, batch, kv_heads, heads, queries, keys, depth, value_depth,
            Strided(dtype, batch, heads, queries, depth),
            Strided(dtype, batch, kv_heads, keys, depth),
            Strided(dtype, batch, kv_heads, keys, value_depth),
            Strided(one_of({int(WB_BOOL), int(WB_F32), dtype}), batch, heads, queries, keys),
            masked, !any(0, 2), any(0, 1) ? 0.3f : 1 / std::sqrt(static_cast<float>(depth)),
            any(1, 8)};
    for (int i = 0; i < 2; ++i)  // the same for all sequences, or heads
        if (any(0, 1)) h.mask.strides[i] = 0;
    h.mask.fill();
    const int64_t empty = any(0, 99);  // a stretch of rows that see nothing, here and there
    for (int64_t i = 0; i < h.mask.count(); ++i) {
        const bool sees = (i / 128 + empty) % 5 && any(0, 3);
        if (h.mask.numbers.dtype == WB_BOOL) h.mask.numbers.set(i, sees);
        else if (!sees) h.mask.numbers.set(i, -INFINITY);
    }
    if (h.q.count() && any(0, 1))  // what must stay in its own row
        h.q.numbers.set(h.q.at(any(0, int(batch) - 1), any(0, int(heads) - 1),
                               any(0, int(queries) - 1), any(0, int(depth) - 1)),
                        NAN);
    return h;
}

bool attends(const Heads &h) {
    const int64_t rows = h.batch * h.queries * h.heads;
    Numbers y(h.dtype, rows * h.value_depth);
    wb_heads a = {h.dtype, h.batch, h.heads, h.kv_heads, h.queries, h.keys, h.depth, h.value_depth,
                  h.q.numbers.bytes.data(), h.k.numbers.bytes.data(), h.v.numbers.bytes.data(),
                  {}, {}, {}, h.masked ? h.mask.numbers.bytes.data() : nullptr,
                  h.mask.numbers.dtype, {}, h.causal, y.bytes.data()};
    // Of no numbers there may be no address, which would read as no mask.
    const bool masked = a.mask != nullptr;
    for (int i = 0; i < 3; ++i) {
        a.q_strides[i] = h.q.strides[i], a.k_strides[i] = h.k.strides[i];
        a.v_strides[i] = h.v.strides[i], a.mask_strides[i] = h.mask.strides[i];
    }
    if (wb_attention(&a, h.scale, h.threads)) return wrong("refused attention", 0, 0, 0);
    std::vector<double> weights(static_cast<size_t>(h.keys));
    for (int64_t row = 0; row < rows; ++row) {
        const int64_t head = row % h.heads, query = row / h.heads % h.queries;
        const int64_t batch = row / h.heads / h.queries, kv = head / (h.heads / h.kv_heads);
        const auto added = [&](int64_t key) -> double {
            if (!masked) return 0;
            const float x = h.mask(batch, head, query, key);
            return h.mask.numbers.dtype == WB_BOOL ? (x != 0 ? 0 : -INFINITY) : x;
        };
        int64_t end = h.causal && query + 1 < h.keys ? query + 1 : h.keys;
        while (end && added(end - 1) == -INFINITY) --end;  // what lies behind is never read
        double most = -INFINITY, sum = 0, largest = 0;
        bool numbers = true;
        for (int64_t key = 0; key < end; ++key) {
            double score = 0;
            for (int64_t d = 0; d < h.depth; ++d)
                score += double(h.q(batch, head, query, d)) * h.k(batch, kv, key, d);
            weights[key] = score * h.scale + added(key);
            numbers = numbers && weights[key] == weights[key];
            most = std::fmax(most, weights[key]);
        }
        for (int64_t key = 0; key < end; ++key) {
            weights[key] = most == -INFINITY ? 0 : std::exp(weights[key] - most);
            sum += weights[key];
        }
        for (int64_t d = 0; d < h.value_depth; ++d) {
            double wanted = 0;
            for (int64_t key = 0; key < end; ++key) {
                wanted += weights[key] / (sum ? sum : 1) * h.v(batch, kv, key, d);
                largest = std::fmax(largest, std::fabs(h.v(batch, kv, key, d)));
            }
            const float found = y[row * h.value_depth + d];
            if (!numbers ? found == found
                         : !(std::fabs(found - wanted) <= (ROUNDING[h.dtype] + SUMS) * largest))
                return wrong("attention", row * h.value_depth + d, found, numbers ? wanted : NAN);
        }
    }
    a.heads = a.kv_heads * 2 + 1, a.kv_heads = 2;
    return wb_attention(&a, 1, 1) == 1 || wrong("heads that do not divide", 0, 0, 1);
}

struct Rows {
    int64_t kind, m, n, x_stride, other_stride;
    Numbers x, other, gain, bias;
    bool keeps_sum, round_early;
    float epsilon;
    int threads;
};

Numbers normals(int dtype, int64_t count) {
    Numbers made(dtype, count);
    for (int64_t i = 0; i < count; ++i) made.set(i, normal());
    return made;
}

Rows some_rows(int64_t m, int64_t n) {
    const int64_t kind = any(0, 2);
    const int64_t x_stride = n + one_of({0, 3}), other_stride = n + one_of({0, 5});
    const auto size = [&](int64_t stride) { return m && n ? (m - 1) * stride + n : 0; };
    const int dtype = any(0, 2);
    const bool norm = kind != WB_PRODUCT, two = !norm || any(0, 1);
    Rows r{kind, m, n, x_stride, other_stride, normals(dtype, size(x_stride)),
           normals(dtype, two ? size(other_stride) : 0),
           normals(any(0, 2), norm && any(0, 2) ? n : 0),
           normals(any(0, 2), norm && any(0, 1) ? n : 0),
           norm && any(0, 1), norm && any(0, 1), 1e-3f, any(1, 8)};
    if (m && n && any(0, 1))  // what must stay in its own row
        r.x.set(any(0, int(m) - 1) * x_stride + any(0, int(n) - 1), one_of({NAN, INFINITY, 0.0f}));
    return r;
}

wb_source described(const Rows &r, Numbers &y, Numbers &sum) {
    return {r.kind, r.x.dtype, r.m, r.n, r.x.bytes.data(), r.x_stride, or_null(r.other.bytes),
            r.other_stride, r.keeps_sum ? sum.bytes.data() : nullptr, y.bytes.data(),
            or_null(r.gain.bytes), r.gain.dtype, or_null(r.bias.bytes), r.bias.dtype,
            r.round_early};
}

float rounded(int dtype, float x) {
    Numbers one(dtype, 1);
    one.set(0, x);
    return one[0];
}

bool computes(const Rows &r) {
    const int dtype = r.x.dtype;
    Numbers y(dtype, r.m * r.n), sum = y;
    const wb_source source = described(r, y, sum);
    if (wb_rows(&source, r.epsilon, r.threads)) return wrong("refused rows", r.n, 0, 0);
    std::vector<float> total(static_cast<size_t>(r.n));
    for (int64_t m = 0; m < r.m; ++m) {
        double mean = 0, squares = 0;
        for (int64_t k = 0; k < r.n; ++k) {
            const float x = r.x[m * r.x_stride + k];
            const float other = r.other ? r.other[m * r.other_stride + k] : 0;
            const int64_t at = m * r.n + k;
            total[k] = rounded(dtype, r.kind == WB_PRODUCT ? x * other : r.other ? x + other : x);
            const float kept = r.kind == WB_PRODUCT ? y[at] : sum[at];
            if ((r.kind == WB_PRODUCT || r.keeps_sum) && kept != total[k] &&
                (kept == kept || total[k] == total[k]))
                return wrong("sum or product", at, kept, total[k]);
            mean += total[k] / static_cast<double>(r.n);
        }
        if (r.kind == WB_PRODUCT) continue;
        if (r.kind == WB_RMS_NORM) mean = 0;
        for (int64_t k = 0; k < r.n; ++k) squares += (total[k] - mean) * (total[k] - mean);
        const double by = 1 / std::sqrt(squares / static_cast<double>(r.n) + r.epsilon);
        for (int64_t k = 0; k < r.n; ++k) {
            double normed = (total[k] - mean) * by;
            if (r.round_early) normed = rounded(dtype, static_cast<float>(normed));
            const double gain = r.gain ? r.gain[k] : 1, bias = r.bias ? r.bias[k] : 0;
            const double wanted = normed * gain + bias;
            const float found = y[m * r.n + k];
            const double most = std::fabs(normed * gain) + std::fabs(bias);
            const int roundings = r.round_early ? 3 : 1;  // an early one may fall the other way
            const double error = roundings * ROUNDING[dtype] * most + SUMS * 8 * (1 + std::fabs(gain));
            if (wanted != wanted ? found == found : !(std::fabs(found - wanted) <= error))
                return wrong("norm", m * r.n + k, found, wanted);
        }
    }
    return true;
}

struct Rotation {
    Strided x;
    Numbers cos, sin;
    int64_t strides[2];
};

Rotation a_rotation() {
    const int dtype = any(0, 2);
    const int64_t batch = one_of({0, 1, 2, 3}), tokens = one_of({0, 1, 5, 17});
    const int64_t depth = 2 * one_of({0, 1, 7, 8, 15, 16, 17, 33, 64});
    const int64_t token = depth + one_of({0, 3}), each = any(0, 1) ? tokens * token : 0;
    const int64_t count =
        batch && tokens && depth ? (batch - 1) * each + (tokens - 1) * token + depth : 0;
    Rotation r{Strided(dtype, batch, any(1, 5), tokens, depth), normals(dtype, count),
               normals(dtype, count), {each, token}};
    if (r.x.count() && any(0, 1))
        r.x.numbers.set(any(0, int(r.x.count()) - 1), one_of({NAN, INFINITY}));
    return r;
}

bool rotates(const Rotation &r) {
    const auto &[batch, heads, tokens, depth] = r.x.sizes;
    const int64_t half = depth / 2;
    Numbers y(r.x.numbers.dtype, batch * heads * tokens * depth), again = y, wanted = y;
    wb_rotation two[2];
    for (wb_rotation &one : two) {
        one = {y.dtype, batch, heads, tokens, depth, r.x.numbers.bytes.data(),
               {r.x.strides[0], r.x.strides[1], r.x.strides[2]}, r.cos.bytes.data(),
               r.sin.bytes.data(), {r.strides[0], r.strides[1]}, nullptr};
        one.y = (&one == two ? y : again).bytes.data();
    }
    if (wb_rotate(two, 2)) return wrong("refused rotation", 0, 0, 0);
    for (int64_t i = 0; depth && i < batch * tokens * heads; ++i)
        for (int64_t d = 0; d < depth; ++d) {
            const int64_t b = i / heads / tokens, t = i / heads % tokens, head = i % heads;
            const int64_t at = b * r.strides[0] + t * r.strides[1] + d;
            const float own = r.x(b, head, t, d) * r.cos[at];
            const float turned = r.x(b, head, t, d < half ? d + half : d - half) * r.sin[at];
            wanted.set(i * depth + d, d < half ? own - turned : own + turned);
        }
    const int64_t count = batch * heads * tokens * depth;
    return (same(y, wanted, count) && same(again, wanted, count)) || wrong("rotation", 0, 0, 0);
}

}  // namespace

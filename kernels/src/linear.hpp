// The linear layer in registers: the same code at every level but AMX, over the types of a vec_*.hpp.
#pragma once

#include <omp.h>

#include <utility>

#include "epilogue.hpp"

namespace workbench {
namespace {

// Loops over registers. Indices have to be constants from the start: gcc unrolls its loops too late
// to keep an array in registers.
template <int I>
struct Index {
    static constexpr int value = I;
};
template <class F, int... I>
__attribute__((always_inline)) inline void each_of(std::integer_sequence<int, I...>, const F &f) {
    (f(Index<I>()), ...);
}
template <int N, class F>
__attribute__((always_inline)) inline void each(const F &f) {
    each_of(std::make_integer_sequence<int, N>(), f);
}
#define WB_EACH(i, count) each<count>([&](auto i##_) __attribute__((always_inline)) { \
    constexpr int i = decltype(i##_)::value;
#define WB_END });

constexpr int64_t AHEAD = 4096;  // bytes to fetch ahead of a panel, as measured in decoding

inline int32_t load_four(const int8_t *p) {
    int32_t four;
    std::memcpy(&four, p, 4);
    return four;
}

// Sums of products over lines [line, end) of `P` panels, for `R` rows of digits, from `starts` on:
// the one loop that takes the time, in a function of its own so that registers suffice. Rows of x are
// `tile` bytes from one 64 inputs to the next; a constant unless it may be the only one.
//
// Each line fetches what follows of its own panels or, with many rows, whose blocks all read these
// panels, its `share` of the `next` ones: so memory is read all the time and not with the first block alone.
template <int R, int P, int BITS, bool ONE_ROW, bool MANY_ROWS>
__attribute__((noinline)) void multiply(const uint8_t *w, int64_t stride, int64_t line, int64_t end,
                                        const int8_t *const *rows, int64_t tile,
                                        const int32_t *const *starts, int32_t *out,
                                        const uint8_t *next, int64_t share) {
    constexpr int FIELDS = 8 / BITS;
    if constexpr (!ONE_ROW) tile = TILE;
    Sums<BITS> sums[R][P];
    const int8_t *x[R];
    WB_EACH(r, R)
        x[r] = rows[r];
        const int32_t from = *starts[r];
        WB_EACH(p, P) sums[r][p] = start<BITS>(from); WB_END
    WB_END
    for (; line < end; ++line) {
        Bytes<BITS> packed[P];
        WB_EACH(p, P)
            packed[p] = load_line<BITS>(w + p * stride + line * LINE);
            if constexpr (!MANY_ROWS) __builtin_prefetch(w + p * stride + line * LINE + AHEAD);
        WB_END
        if constexpr (MANY_ROWS) __builtin_prefetch(next + line * share, 0, 2);  // to the second cache
        const int64_t at = digit_at(line * FIELDS * 4, tile);
        if constexpr (IN_PAIRS<BITS>) {
            Bytes<BITS> values[FIELDS][P];
            WB_EACH(f, FIELDS)
                WB_EACH(p, P) values[f][p] = field<BITS>(packed[p], f); WB_END
            WB_END
            WB_EACH(r, R)
                Bytes<BITS> pairs[P];
                WB_EACH(f, FIELDS)
                    const int32_t four = load_four(x[r] + at + f * 4);
                    WB_EACH(p, P)
                        const auto products = multiply_pairs(values[f][p], four);
                        pairs[p] = f ? join_pairs(pairs[p], products) : products;
                    WB_END
                WB_END
                WB_EACH(p, P) add_pairs(sums[r][p], pairs[p]); WB_END
            WB_END
        } else {
            WB_EACH(f, FIELDS)
                Bytes<BITS> values[P];
                WB_EACH(p, P) values[p] = field<BITS>(packed[p], f); WB_END
                WB_EACH(r, R)
                    const int32_t four = load_four(x[r] + at + f * 4);
                    WB_EACH(p, P) multiply_add<BITS>(sums[r][p], values[p], four); WB_END
                WB_END
            WB_END
        }
    }
    WB_EACH(r, R)
        WB_EACH(p, P) store_ints(out + (r * P + p) * LANES, total(sums[r][p])); WB_END
    WB_END
}

// `M` rows of x against `P` panels; with many rows, `block` of `blocks` alike.
template <int M, int D, int P, int BITS, bool MANY_ROWS>
void block(const Linear &c, const Activations &a, int64_t row, int64_t panel, int64_t index = 0,
           int64_t blocks = 1) {
    constexpr int R = M * D;
    const int64_t stride = panel_bytes(c.k, BITS), all_lines = lines(c.k, BITS);
    const int64_t group_lines = c.groups == 1 ? all_lines : all_lines / c.groups;
    const int8_t *x[R];
    const int32_t *starts[R];
    for (int r = 0; r < R; ++r) {
        x[r] = a.digit<D>(row + r / D, r % D, c.k);
        starts[r] = a.starts + (row * D + r) * c.groups;
    }
    alignas(64) int32_t sums[R * P * LANES];
    alignas(64) float kept[M * P * LANES];
    const uint8_t *w = c.packed + panel * stride;
    const int64_t share = ceil_div(P * LINE, blocks);  // bytes for each line
    const uint8_t *next = w + P * stride + index * share * all_lines;
    for (int64_t g = 0; g < c.groups; ++g) {
        const int64_t line = g * group_lines, end = line + group_lines;
        multiply<R, P, BITS, M == 1, MANY_ROWS>(w, stride, line, end, x, a.tile, starts, sums, next,
                                                share);
        if (D == 1 && c.groups == 1) {
            finish_rows(c, a, row, M, panel, P, sums, P * LANES);
            return;
        }
        for (int r = 0; r < R; ++r) ++starts[r];
        for (int p = 0; p < P; ++p) {
            const Columns to = columns(c, panel + p);
            const Floats scale = to.scale(g), zero = to.zero(g);
            for (int m = 0; m < M; ++m)
                finish_group<D>(to, a, g, scale, zero, row + m, sums + (m * D * P + p) * LANES, P * LANES,
                                kept + (m * P + p) * LANES);
        }
    }
}

// The same for so few rows that all stays in registers, which is what decoding lives on: one panel
// after the other, so that memory is read as one stream, in four independent chains of sums.
template <int M, int D, int BITS>
void small_block(const Linear &c, const Activations &a, int64_t row, int64_t panel) {
    constexpr int FIELDS = 8 / BITS, R = M * D, CHAINS = 4;
    constexpr int UNROLLED = BITS < 4 ? BITS : 4;  // lines, whose inputs lie in one tile
    const int64_t groups = c.groups, tile = a.tile, all_lines = lines(c.k, BITS);
    const int64_t group_lines = groups == 1 ? all_lines : all_lines / groups;
    const uint8_t *w = c.packed + panel * panel_bytes(c.k, BITS);
    const int8_t *x[R];
    WB_EACH(r, R) x[r] = a.digit<D>(row + r / D, r % D, c.k); WB_END
    const Columns to = columns(c, panel);
    const int32_t *starts = a.starts + row * D * groups;
    Floats y[M];
    WB_EACH(m, M) y[m] = all(0); WB_END
    for (int64_t g = 0, line = 0; g < groups; ++g) {
        Sums<BITS> sums[R][CHAINS];
        WB_EACH(r, R)
            const int32_t from = starts[r * groups + g];
            WB_EACH(i, CHAINS) sums[r][i] = start<BITS>(i ? 0 : from); WB_END
        WB_END
        const int64_t end = line + group_lines;
        // Line `u` after `line`, whose inputs begin at `at`.
        const auto add_line = [&](int64_t at, auto u_) __attribute__((always_inline)) {
            constexpr int u = decltype(u_)::value;
            const uint8_t *p = w + (line + u) * LINE;
            const Bytes<BITS> packed = load_line<BITS>(p);
            __builtin_prefetch(p + AHEAD);
            WB_EACH(f, FIELDS)
                constexpr int four_inputs = u * FIELDS + f;
                const Bytes<BITS> values = field<BITS>(packed, f);
                WB_EACH(r, R)
                    const int32_t four = load_four(x[r] + at + four_inputs * 4);
                    multiply_add<BITS>(sums[r][four_inputs % CHAINS], values, four);
                WB_END
            WB_END
        };
        for (; line % UNROLLED == 0 && line + UNROLLED <= end; line += UNROLLED) {
            const int64_t at = digit_at(line * FIELDS * 4, tile);
            WB_EACH(u, UNROLLED) add_line(at, Index<u>()); WB_END
        }
        for (; line < end; ++line) add_line(digit_at(line * FIELDS * 4, tile), Index<0>());
        const Floats scale = to.scale(g), zero = to.zero(g);
        WB_EACH(m, M)
            Floats t = all(0);
            WB_EACH(d, D)
                const auto &of = sums[m * D + d];
                const Ints one = plus(plus(total(of[0]), total(of[1])),
                                      plus(total(of[2]), total(of[3])));
                t = d ? add(mul(t, all(256)), to_floats(one)) : to_floats(one);
            WB_END
            if (c.zero) t = sub(t, mul(zero, all(a.sums[(row + m) * groups + g])));
            t = mul(t, scale);
            y[m] = g ? add(y[m], t) : t;
        WB_END
    }
    WB_EACH(m, M) to.finish(y[m], row + m, a.steps[row + m]); WB_END
}

template <int M, int D, int P, int BITS>
void rows(const Linear &c, const Activations &a, int64_t &row, int64_t end, int64_t panel) {
    for (; row + M <= end; row += M) block<M, D, P, BITS, false>(c, a, row, panel);
    if constexpr (M > 1) rows<M / 2, D, P, BITS>(c, a, row, end, panel);
}

template <int D, int P, int BITS>
void all_rows(const Linear &c, const Activations &a, int64_t row, int64_t end, int64_t panel) {
    constexpr int M = ROWS<BITS> > D ? ROWS<BITS> / D : 1;
    constexpr int64_t MANY = 4;
    const int64_t blocks = (end - row) / M;
    if (blocks >= MANY)
        for (int64_t i = 0; i < blocks; ++i, row += M)
            block<M, D, P, BITS, true>(c, a, row, panel, i, blocks);
    rows<M, D, P, BITS>(c, a, row, end, panel);
}

template <int D, int BITS>
void part(const Linear &c, const Activations &a, int64_t row, int64_t rows_end, int64_t panel,
          int64_t panels_end) {
    if (rows_end - row == 1 && D <= SMALL_DIGITS) {
        for (; panel < panels_end; ++panel) small_block<1, D, BITS>(c, a, row, panel);
        return;
    }
    for (; panel + PANELS <= panels_end; panel += PANELS)
        all_rows<D, PANELS, BITS>(c, a, row, rows_end, panel);
    for (; panel < panels_end; ++panel) all_rows<D, 1, BITS>(c, a, row, rows_end, panel);
}

template <int D>
void part_of(const Linear &c, const Activations &a, int64_t row, int64_t rows_end, int64_t panel,
             int64_t panels_end) {
    if (c.bits == 8) part<D, 8>(c, a, row, rows_end, panel, panels_end);
    if (c.bits == 4) part<D, 4>(c, a, row, rows_end, panel, panels_end);
    if (c.bits == 2) part<D, 2>(c, a, row, rows_end, panel, panels_end);
}

// What multiplies rows [row, rows_end) by panels [panel, panels_end).
using Part = void (*)(const Linear &, const Activations &, int64_t row, int64_t rows_end,
                      int64_t panel, int64_t panels_end);

inline void part_in_registers(const Linear &c, const Activations &a, int64_t row, int64_t rows_end,
                              int64_t panel, int64_t panels_end) {
    if (c.digits == 1) part_of<1>(c, a, row, rows_end, panel, panels_end);
    if (c.digits == 2) part_of<2>(c, a, row, rows_end, panel, panels_end);
    if (c.digits == 3) part_of<3>(c, a, row, rows_end, panel, panels_end);
}

// One share of one layer: panels divided among `across` threads, rows among `down`.
inline void multiply_share(const Linear &c, const Activations &a, Part multiply, int64_t rows_unit,
                           int64_t panels_unit, int64_t threads, int64_t share) {
    const int64_t many = panels(c.n), panel_parts = ceil_div(many, panels_unit);
    const int64_t across = panel_parts < threads ? panel_parts : threads;
    const int64_t down = across ? threads / across : 0;  // rows where panels are few
    if (share >= across * down) return;
    const int64_t i = share % across, j = share / across, row_parts = ceil_div(c.m, rows_unit);
    const int64_t first = panel_parts * i / across * panels_unit;
    const int64_t last = panel_parts * (i + 1) / across * panels_unit;
    const int64_t top = row_parts * j / down * rows_unit;
    const int64_t bottom = row_parts * (j + 1) / down * rows_unit;
    multiply(c, a, top, bottom < c.m ? bottom : c.m, first, last < many ? last : many);
}

// Quantize all rows, then multiply by the weights of each layer. `rows_unit` and `panels_unit` are
// what `multiply` takes best at a time.
inline int run(const Input &in, const wb_output *outputs, int count, Part multiply,
               int64_t rows_unit, int64_t panels_unit) {
    const int64_t padded = padded_inputs(in.k), groups = in.groups, digits = in.digits;
    const int64_t blocks = ceil_div(in.m, rows_per_block(in.digits));
    constexpr int64_t TINY = 1 << 18;  // multiply-adds below which a second thread costs more
    int64_t work = 0;
    for (int i = 0; i < count; ++i) work += in.m * in.k * digits * outputs[i].n;
    const int64_t threads = work < TINY || in.threads < 1 || omp_in_parallel() ? 1 : in.threads;

    Activations a;
    const int64_t digit_bytes = blocks * padded * 16, starts = in.m * digits * groups;
    char *memory = static_cast<char *>(
        scratch(0, digit_bytes + 4 * (starts + in.m * groups + in.m + threads * padded) + 64));
    if (!memory) return 1;
    a.digits = reinterpret_cast<int8_t *>(memory);
    a.tile = tile_bytes(in.m, digits);
    a.row = reinterpret_cast<float *>(memory + digit_bytes);  // 64-byte aligned, as blocks are
    a.starts = reinterpret_cast<int32_t *>(a.row + threads * padded);
    a.sums = reinterpret_cast<float *>(a.starts + starts);
    a.steps = a.sums + in.m * groups;
    clear_rest(in, a);

    const auto layer = [&](int i) { return Linear{in, outputs[i]}; };
    const bool quantize_apart = threads > 1 && in.m >= 2 * threads;
    if (!quantize_apart)
        for (int64_t r = 0; r < in.m; ++r) quantize_row(in, a, r);
    if (threads == 1) {
        for (int i = 0; i < count; ++i) multiply(layer(i), a, 0, in.m, 0, panels(outputs[i].n));
        return 0;
    }
#pragma omp parallel num_threads(static_cast<int>(threads))
    {
        const int64_t team = omp_get_num_threads(), me = omp_get_thread_num();
        if (quantize_apart) {
            Activations mine = a;
            mine.row = a.row + me * padded;
            for (int64_t r = in.m * me / team; r < in.m * (me + 1) / team; ++r)
                quantize_row(in, mine, r);
#pragma omp barrier
        }
        // A team may be smaller than asked for; then each thread takes several shares.
        for (int i = 0; i < count; ++i)
            for (int64_t share = me; share < threads; share += team)
                multiply_share(layer(i), a, multiply, rows_unit, panels_unit, threads, share);
    }
    return 0;
}

inline int linears_in_registers(const Input &in, const wb_output *outputs, int count) {
    return run(in, outputs, count, part_in_registers, ROWS<8> > in.digits ? ROWS<8> / in.digits : 1,
               PANELS);
}

}  // namespace
}  // namespace workbench

// The linear layer in AMX tiles: 32 rows of digits by two panels at a time; few rows by AVX-512.
#include "vec_avx512.hpp"

#include "attention.hpp"
#include "peak.hpp"
#include "rotation.hpp"
#include "tiles.hpp"

namespace workbench {
namespace {

constexpr int PAIR = 2;      // panels, and blocks of rows, that share their tiles
constexpr int FEW_ROWS = 8;  // of digits: below, tiles would be mostly empty

// Widen `count` panels to one byte a value; 8-bit weights are used where they lie.
template <int BITS>
const uint8_t *widened(const Linear &c, int64_t panel, int64_t count, uint8_t *to) {
    const uint8_t *from = c.packed + panel * panel_bytes(c.k, BITS);
    if constexpr (BITS == 8) return from;
    constexpr int FIELDS = 8 / BITS;
    const int64_t all_lines = lines(c.k, BITS), stride = padded_inputs(c.k) * LANES;
    for (int64_t p = 0; p < count; ++p)
        for (int64_t line = 0; line < all_lines; ++line) {
            const Bytes<BITS> packed = load_line<BITS>(from + (p * all_lines + line) * LINE);
            for (int f = 0; f < FIELDS; ++f)
                _mm512_storeu_si512(to + p * stride + (line * FIELDS + f) * LINE,
                                    field<BITS>(packed, f));
        }
    return to;
}

inline void shape_tiles(int64_t inputs) {
    TileShapes shapes;
    for (int t = 0; t < 8; ++t) {
        const bool is_x = t == 4 || t == 5, is_w = t >= 6;
        shapes.rows[t] = static_cast<uint8_t>(is_w ? inputs / 4 : 16);
        shapes.row_bytes[t] = static_cast<uint16_t>(is_x ? inputs : 64);
    }
    tiles_begin(shapes);
}

template <int D, int BITS>
void part_in_tiles(const Linear &c, const Activations &a, int64_t top, int64_t bottom,
                   int64_t panel, int64_t panels_end) {
    const int64_t per_block = rows_per_block(D), padded = padded_inputs(c.k);
    const int64_t size = c.groups == 1 ? padded : c.k / c.groups;
    const int64_t inputs = c.groups == 1 || size % 64 == 0 ? 64 : (size & -size);
    const int64_t w_stride = BITS == 8 ? panel_bytes(c.k, 8) : padded * LANES;
    uint8_t *wide = nullptr;
    if (BITS != 8) {
        wide = static_cast<uint8_t *>(scratch(1, PAIR * w_stride));
        if (!wide) return part<D, BITS>(c, a, top, bottom, panel, panels_end);
    }
    alignas(64) int32_t sums[32 * 32] = {};
    alignas(64) float kept[32 * 32];
    shape_tiles(inputs);
    for (; panel < panels_end; panel += PAIR) {
        const int64_t panels_here = panels_end - panel < PAIR ? panels_end - panel : PAIR;
        const uint8_t *w = widened<BITS>(c, panel, panels_here, wide);
        const uint8_t *w1 = panels_here > 1 ? w + w_stride : w;
        for (int64_t row = top; row < bottom; row += PAIR * per_block) {
            const int64_t left = bottom - row;
            const int64_t rows_here = left < PAIR * per_block ? left : PAIR * per_block;
            const int8_t *x = a.digits + (row / per_block) * padded * 16;
            const int8_t *x1 = rows_here > per_block ? x + padded * 16 : x;
            for (int64_t g = 0, k = 0; g < c.groups; ++g) {
                for (int64_t r = 0; r < rows_here * D; ++r) {
                    const int64_t at = (r / (per_block * D)) * 16 + r % (per_block * D);
                    const Sums<BITS> from = start<BITS>(a.starts[(row * D + r) * c.groups + g]);
                    store_ints(sums + at * 32, from);
                    store_ints(sums + at * 32 + 16, from);
                }
                WB_TILE_LOAD(0, sums, 128);
                WB_TILE_LOAD(1, sums + 16, 128);
                WB_TILE_LOAD(2, sums + 16 * 32, 128);
                WB_TILE_LOAD(3, sums + 16 * 32 + 16, 128);
                for (const int64_t end = k + size; k < end; k += inputs) {
                    const int64_t at = digit_at(k, TILE);
                    WB_TILE_LOAD(6, w + k * LANES, LINE);
                    WB_TILE_LOAD(4, x + at, 64);
                    WB_TILE_LOAD(7, w1 + k * LANES, LINE);
                    WB_TILE_LOAD(5, x1 + at, 64);
                    WB_TILE_MULTIPLY(0, 4, 6);
                    WB_TILE_MULTIPLY(1, 4, 7);
                    WB_TILE_MULTIPLY(2, 5, 6);
                    WB_TILE_MULTIPLY(3, 5, 7);
                }
                WB_TILE_STORE(0, sums, 128);
                WB_TILE_STORE(1, sums + 16, 128);
                WB_TILE_STORE(2, sums + 16 * 32, 128);
                WB_TILE_STORE(3, sums + 16 * 32 + 16, 128);
                if (D == 1 && c.groups == 1) {
                    finish_rows(c, a, row, rows_here, panel, panels_here, sums, 32);
                    continue;
                }
                for (int64_t p = 0; p < panels_here; ++p) {
                    const Columns to = columns(c, panel + p);
                    const Floats scale = to.scale(g), zero = to.zero(g);
                    for (int64_t m = 0; m < rows_here; ++m) {
                        const int64_t first = (m / per_block) * 16 + (m % per_block) * D;
                        finish_group<D>(to, a, g, scale, zero, row + m, sums + first * 32 + p * 16,
                                        32, kept + m * 32 + p * 16);
                    }
                }
            }
        }
    }
    tiles_end();
}

template <int D>
void part_of_digits(const Linear &c, const Activations &a, int64_t row, int64_t rows_end,
                    int64_t panel, int64_t panels_end) {
    if ((rows_end - row) * D <= FEW_ROWS)
        return part_of<D>(c, a, row, rows_end, panel, panels_end);
    if (c.bits == 8) part_in_tiles<D, 8>(c, a, row, rows_end, panel, panels_end);
    if (c.bits == 4) part_in_tiles<D, 4>(c, a, row, rows_end, panel, panels_end);
    if (c.bits == 2) part_in_tiles<D, 2>(c, a, row, rows_end, panel, panels_end);
}

void part_in_tiles_or_registers(const Linear &c, const Activations &a, int64_t row,
                                int64_t rows_end, int64_t panel, int64_t panels_end) {
    if (c.digits == 1) part_of_digits<1>(c, a, row, rows_end, panel, panels_end);
    if (c.digits == 2) part_of_digits<2>(c, a, row, rows_end, panel, panels_end);
    if (c.digits == 3) part_of_digits<3>(c, a, row, rows_end, panel, panels_end);
}

int linears_in_tiles(const Input &in, const wb_output *outputs, int count) {
    return run(in, outputs, count, part_in_tiles_or_registers, PAIR * rows_per_block(in.digits),
               PAIR);
}

double peak_in_tiles(double seconds) {
    alignas(64) static const uint8_t ones[TILE] = {1};
    shape_tiles(64);
    WB_TILE_LOAD(4, ones, 64);
    WB_TILE_LOAD(6, ones, 64);
    const auto now = [] { return std::chrono::steady_clock::now(); };
    const auto begin = now();
    double elapsed = 0, count = 0;
    while (elapsed < seconds) {
        for (int i = 0; i < 1000; ++i) {
            WB_TILE_MULTIPLY(0, 4, 6);
            WB_TILE_MULTIPLY(1, 4, 6);
            WB_TILE_MULTIPLY(2, 4, 6);
            WB_TILE_MULTIPLY(3, 4, 6);
        }
        count += 4000.0 * 16 * 16 * 64;
        elapsed = std::chrono::duration<double>(now() - begin).count();
    }
    tiles_end();
    return count / elapsed;
}

}  // namespace

#ifdef WB_EMULATE_AMX
const Level amx_emulated = {"amx-emulated", linears_in_tiles, peak_in_tiles,
                            rows_of_source, rotate, attention};
#else
const Level amx = {"amx", linears_in_tiles, peak_in_tiles, rows_of_source, rotate, attention};
#endif

}  // namespace workbench

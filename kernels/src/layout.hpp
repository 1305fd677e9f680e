// Where the weight of row n and input k lies once packed, and where an activation's digit does.
//
// Weights: panels of 16 rows (output features), each a stack of lines of 64 bytes. A line holds for
// each of the 16 rows 4 bytes; each byte holds 8 / bits values, `4 * 8 / bits` consecutive inputs in
// all: of 4-bit weights the low nibbles of a line are inputs 0..3, the high ones 4..7. So a line of
// 8-bit weights is what one vpdpbusd multiplies, 16 lines are one AMX tile, and narrower weights
// come to that by a shift and a mask. Values are stored with an offset that makes them unsigned.
// Inputs are padded to whole lines, rows to whole panels; one tile of padding ends it all, since a
// tile load may read past the last line.
//
// Scales and zero points: for each panel and group those of its 16 rows, so that a panel's lie side by
// side as its lines do, and decoding reads few streams.
//
// Activations: blocks of 16 rows, for each 64 inputs a tile of 16 x 64 bytes. Digits of one
// activation row are neighbouring rows of the block, the highest first. The digits of a single row lie
// in tiles of no more than these, so that a long row stays in the first cache.
#pragma once

#include <cstdint>

namespace workbench {

constexpr int64_t LANES = 16;  // rows in a panel
constexpr int64_t LINE = 64;   // bytes
constexpr int64_t TILE = 1024;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t inputs_per_line(int64_t bits) { return 32 / bits; }
inline int64_t lines(int64_t k, int64_t bits) { return ceil_div(k, inputs_per_line(bits)); }
inline int64_t panel_bytes(int64_t k, int64_t bits) { return lines(k, bits) * LINE; }
inline int64_t panels(int64_t n) { return ceil_div(n, LANES); }

struct Place {
    int64_t byte;
    int shift;
};

inline Place place(int64_t row, int64_t input, int64_t k, int bits) {
    const int64_t in_line = input % inputs_per_line(bits);
    return {(row / LANES) * panel_bytes(k, bits) + (input / inputs_per_line(bits)) * LINE +
                (row % LANES) * 4 + in_line % 4,
            static_cast<int>(in_line / 4) * bits};
}

inline int64_t number_at(int64_t row, int64_t group, int64_t groups) {
    return (row / LANES * groups + group) * LANES + row % LANES;
}

inline int64_t rows_per_block(int64_t digits) { return 16 / digits; }  // of x, in 16 rows of digits
inline int64_t tile_bytes(int64_t rows, int64_t digits) { return rows == 1 ? digits * 64 : TILE; }
inline int64_t digit_at(int64_t input, int64_t tile) { return (input >> 6) * tile + (input & 63); }
inline int64_t padded_inputs(int64_t k) { return ceil_div(k, 64) * 64; }

}  // namespace workbench

// The tile instructions of AMX; or, compiled with WB_EMULATE_AMX, what Intel's manual says they do,
// so that the code above them is tested on machines that lack them.
#pragma once

#include <cstdint>
#include <cstring>

#include <immintrin.h>

namespace workbench {
namespace {

struct alignas(64) TileShapes {  // the operand of ldtilecfg
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
};

#ifndef WB_EMULATE_AMX

inline void tiles_begin(const TileShapes &shapes) { _tile_loadconfig(&shapes); }
inline void tiles_end() { _tile_release(); }
#define WB_TILE_ZERO(t) _tile_zero(t)
#define WB_TILE_LOAD(t, p, stride) _tile_loadd(t, p, stride)
#define WB_TILE_STORE(t, p, stride) _tile_stored(t, p, stride)
#define WB_TILE_MULTIPLY(c, a, b) _tile_dpbsud(c, a, b)

#else

struct Tile {
    uint8_t v[16][64];
};
static thread_local Tile tiles[8];
static thread_local TileShapes tile_shapes;

inline void tiles_begin(const TileShapes &shapes) {
    tile_shapes = shapes;
    std::memset(tiles, 0, sizeof tiles);
}
inline void tiles_end() { tile_shapes = TileShapes(); }
inline void tile_load(int t, const void *p, int64_t stride) {
    std::memset(tiles[t].v, 0, sizeof tiles[t].v);
    for (int r = 0; r < tile_shapes.rows[t]; ++r)
        std::memcpy(tiles[t].v[r], static_cast<const char *>(p) + r * stride,
                    tile_shapes.row_bytes[t]);
}
inline void tile_store(int t, void *p, int64_t stride) {
    for (int r = 0; r < tile_shapes.rows[t]; ++r)
        std::memcpy(static_cast<char *>(p) + r * stride, tiles[t].v[r], tile_shapes.row_bytes[t]);
}
inline void tile_multiply(int c, int a, int b) {  // TDPBSUD: signed a, unsigned b
    for (int m = 0; m < tile_shapes.rows[c]; ++m)
        for (int k = 0; k < tile_shapes.row_bytes[a] / 4; ++k)
            for (int n = 0; n < tile_shapes.row_bytes[c] / 4; ++n) {
                int32_t sum;
                std::memcpy(&sum, tiles[c].v[m] + 4 * n, 4);
                uint32_t wrapping = static_cast<uint32_t>(sum);
                for (int i = 0; i < 4; ++i)
                    wrapping += static_cast<uint32_t>(
                        static_cast<int8_t>(tiles[a].v[m][4 * k + i]) * tiles[b].v[k][4 * n + i]);
                std::memcpy(tiles[c].v[m] + 4 * n, &wrapping, 4);
            }
}
#define WB_TILE_ZERO(t) std::memset(tiles[t].v, 0, sizeof tiles[t].v)
#define WB_TILE_LOAD(t, p, stride) tile_load(t, p, stride)
#define WB_TILE_STORE(t, p, stride) tile_store(t, p, stride)
#define WB_TILE_MULTIPLY(c, a, b) tile_multiply(c, a, b)

#endif

}  // namespace
}  // namespace workbench

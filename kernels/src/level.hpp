// What each instruction set provides: one table of functions, filled by one translation unit.
#pragma once

#include "workbench_kernels.h"

namespace workbench {

struct Linear {  // the arguments of wb_linear
    const void *x;
    int x_dtype;
    int64_t x_stride, m, k;
    const uint8_t *packed;
    int bits;
    int64_t n, groups;
    const float *scale;
    int one_scale;
    const void *zero;
    int zero_dtype;
    const void *bias;
    int bias_dtype;
    const float *multiplier;
    int one_multiplier;
    const float *step;
    int digits, activation;
    void *y;
    int y_dtype;
    int threads;
};

struct Level {
    const char *name;
    int (*linear)(const Linear &);
    double (*peak)(double seconds);
};

extern const Level portable, avx2, avxvnni, avx512vnni, amx, amx_emulated;

// Memory of this thread that outlives the call, since page faults cost more than the product.
// NULL where there is none left.
void *scratch(int slot, int64_t bytes);

}  // namespace workbench

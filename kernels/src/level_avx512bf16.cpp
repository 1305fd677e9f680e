#include "vec_avx512.hpp"

#include "attention.hpp"
#include "peak.hpp"
#include "rotation.hpp"

namespace workbench {
const Level avx512bf16 = {"avx512bf16", linears_in_registers, peak_in_registers,
                          rows_of_source, rotate, attention};
}  // namespace workbench

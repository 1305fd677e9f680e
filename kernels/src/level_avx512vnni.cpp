#include "vec_avx512.hpp"

#include "linear.hpp"
#include "peak.hpp"

namespace workbench {
const Level avx512vnni = {"avx512vnni", linears_in_registers, peak_in_registers};
}  // namespace workbench

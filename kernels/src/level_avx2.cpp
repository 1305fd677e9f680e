#include "vec_avx2.hpp"

#include "linear.hpp"
#include "peak.hpp"

namespace workbench {
const Level avx2 = {"avx2", linears_in_registers, peak_in_registers};
}  // namespace workbench

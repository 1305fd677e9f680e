#!/usr/bin/env bash
# Builds the kernels with AddressSanitizer and UndefinedBehaviorSanitizer, a quarter of an hour on one
# core, then runs tests/check.cpp, and the kernels' Python tests in the Python that is active. Both take
# up every level of this machine.
set -euo pipefail
cd "$(dirname "$0")/.."

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
cmake -S kernels -B "$build" -DWORKBENCH_SANITIZE=address,undefined >"$build/configure.log"
cmake --build "$build" --target check --parallel

export OMP_WAIT_POLICY=passive  # or threads spin on cores that others want, many times slower
"$build/check"

# Python is not built for it: the runtimes come first, and what it leaves behind is its own affair.
runtimes="$(c++ -print-file-name=libasan.so) $(c++ -print-file-name=libubsan.so)"
ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD=$runtimes \
    WORKBENCH_KERNELS_LIBRARY=$build/libworkbench_kernels.so \
    python -m pytest -q -p no:cacheprovider tests/ops

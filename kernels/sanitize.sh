#!/usr/bin/env bash
# Builds the kernels with AddressSanitizer and UndefinedBehaviorSanitizer, then runs at every level of
# this machine tests/check.cpp, and the kernels' Python tests, in the Python that is active.
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
for level in $("$build/check" --levels); do
    echo "tests at level $level"
    ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD=$runtimes \
        WORKBENCH_KERNELS=$level WORKBENCH_KERNELS_LIBRARY=$build/libworkbench_kernels.so \
        python -m pytest -q -p no:cacheprovider tests/ops
done

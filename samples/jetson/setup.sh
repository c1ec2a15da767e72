#!/usr/bin/env bash
# From a fresh JetPack to a device that takes part in a federation: ./setup.sh --help
source "$(dirname "${BASH_SOURCE[0]}")/../boards/common.sh"
board_name="Jetson with JetPack 6 or 7"
release_file=$root/etc/nv_tegra_release
takes_wheel=yes

# The L4T release: 36 is JetPack 6, 38 and later are JetPack 7. Empty if this is no Jetson.
l4t() { sed -n '1s/^# R\([0-9][0-9]*\) .*/\1/p' "$release_file" 2>/dev/null || true; }

board_check() {
    local release
    release=$(l4t)
    if [ -z "$release" ]; then
        [ -n "$dry_run" ] || fail "This is no Jetson ($release_file says nothing): use samples/raspberry_pi/setup.sh on a Raspberry Pi."
    elif [ "$release" -lt 36 ]; then
        fail "This is L4T R$release, JetPack 5 or older, whose Python 3.8 is too old for Impasto: flash JetPack 6 or 7."
    fi
}

# Both packages are the module onnxruntime: the one for the CPU, which Impasto asks for, has to go.
board_wheels() {
    local release
    release=$(l4t)
    say "onnxruntime for the graphics processor"
    # Also the one of an earlier run: they share files, so that removing one breaks the other. pip keeps the downloads.
    run "$pip" uninstall --quiet -y onnxruntime onnxruntime-gpu
    if [ -n "$wheel" ]; then
        run "$pip" install --quiet --disable-pip-version-check --no-deps "$wheel" && return
    elif [ "${release:-38}" -ge 38 ]; then
        # PyPI's wheels for aarch64 are for CUDA 13. 1.29 crashes on import where /bin is missing.
        run "$pip" install --quiet --disable-pip-version-check 'onnxruntime-gpu>=1.30' && return
    else
        say "PyPI has no wheel for JetPack 6 and its CUDA 12.6: get one (samples/jetson/README.md) and give it with --wheel FILE."
    fi
    say "No wheel was installed, see above: the device draws on the processor instead."
    run "$pip" install --quiet --disable-pip-version-check -c "$source_folder/constraints.txt" onnxruntime
}

board_memory() {
    [ -n "$dry_run" ] || fail "The memory controller of control groups is off: start the kernel with cgroup_enable=memory (APPEND in /boot/extlinux/extlinux.conf), restart, and run this again."
}

main "$@"

#!/usr/bin/env bash
# From a fresh 64-bit Raspberry Pi OS to a device that takes part in a federation: ./setup.sh --help
source "$(dirname "${BASH_SOURCE[0]}")/../boards/common.sh"
board_name="Raspberry Pi 4 or 5 with the 64-bit Raspberry Pi OS"
boot=$root/boot/firmware

board_check() {
    local model
    model=$(tr -d '\0' 2>/dev/null <"$root/proc/device-tree/model" || true)
    case $model in
    "Raspberry Pi"*) ;;
    *) [ -n "$dry_run" ] || fail "This is no Raspberry Pi (${model:-the board has no name}): use samples/jetson/setup.sh on a Jetson." ;;
    esac
}

# The wheels of PyPI do: the back end is cpu.
board_wheels() { :; }

# Raspberry Pi OS comes with the controller off: the firmware passes cgroup_disable=memory, and this takes it back.
board_memory() {
    local line
    if [ ! -f "$boot/cmdline.txt" ]; then
        [ -n "$dry_run" ] && return
        fail "There is no $boot/cmdline.txt: add cgroup_enable=memory to the kernel's command line yourself, restart, and run this again."
    fi
    line=$(head -n 1 "$boot/cmdline.txt")
    [ -n "$line" ] || fail "$boot/cmdline.txt is empty, with which the board would not start: repair that first."
    case " $line " in
    *" cgroup_enable=memory "*) fail "The kernel was told to switch the memory controller on, and has not: restart if you have not since, or update it (sudo apt full-upgrade)." ;;
    esac
    [ -n "$dry_run" ] || [ -f "$boot/cmdline.txt.before-impasto" ] || cp "$boot/cmdline.txt" "$boot/cmdline.txt.before-impasto"
    put "$boot/cmdline.txt" 0755 root <<<"$line cgroup_enable=memory" || true
}

main "$@"

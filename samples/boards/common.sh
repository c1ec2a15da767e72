# From a fresh image to a joined device: the part that all boards share. Sourced by setup.sh of raspberry_pi/ and jetson/,
# which define:
#   board_name      the name for people
#   board_check     ends by `fail` if this is not such a board, or one that is not supported
#   board_wheels    installs what the board needs beside the usual wheels; $pip is the pip to use
#   takes_wheel     optional: not empty if --wheel names a file, $wheel, that board_wheels installs
#   board_memory    switches the memory controller on, and says so; ends by `fail` if it cannot
# Everything may be run again: each step looks first whether it is done.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_folder=$(cd "$here/../.." && pwd)
root=${IMPASTO_ROOT:-} # in front of all paths of the system, for tests
venv=$root/opt/impasto
settings=$root/etc/impasto
units=$root/etc/systemd/system
cgroups=$root/sys/fs/cgroup
pip=$venv/bin/pip

dry_run= service=yes learner=${SUDO_USER:-$(id -un)} package=$source_folder
broker= federation= bundle= model= pictures= home_folder= invitation= user_home= wheel=
options=()

usage() {
    cat <<END
From a fresh image to a device that takes part in a federation, on a $board_name.

  sudo ./setup.sh --broker mqtts://broker.example -f stickers -b bundle/ -m model/ -p pictures/ --invitation-file invitation.txt

Installs Python's venv and Impasto with what training needs, looks at the board and at the way to the federation
(impasto doctor), prepares the bundle for this processor, and starts a service that joins, works at low priority within
a limit of memory, and comes back after a power loss. Run it again with the same options at any time: what is done is
not done again, and changed options take effect.

Needed:
  --broker URL             mqtt://host:1883 or mqtts://host:8883
  -f, --federation NAME    its name
  -b, --bundle FOLDER      made by impasto-export on another machine
  -m, --model FOLDER       the base model that the bundle was made of
  -p, --pictures FOLDER    pictures with captions, which stay here
If the operator gave you such a thing:
  --invitation-file FILE   what the operator gave you for this device; needed once
  --trust FINGERPRINT      of the coordinator's key
  --ca FILE                the broker's authority, with mqtts
  --certificate FILE       this device's certificate, and its --key FILE
  --username NAME          at the broker, and its --password-file FILE
  --device-id NAME         this device's name, if a certificate or rules ask for a certain one
More:
  --home FOLDER            adapters and unfinished work; default: .impasto in the user's home
  --user NAME              whose pictures these are, and who runs the service; default: you (now: $learner)
  --package PATH           the Impasto to install; default: this repository
${takes_wheel:+  --wheel FILE             a wheel of onnxruntime-gpu for this board, in place of the one on PyPI
}  --no-service             stop before the service
  --dry-run                print each command that changes something, and run none of them
  -h, --help               this text

Exit codes: 0 done; 1 something is missing, the text says what to do; 2 the command line makes no sense; 3 restart the
board and run the same command again.
END
}

say() { printf '%s\n' "== $*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
wrong() {
    printf 'error: %s (--help shows all options)\n' "$*" >&2
    exit 2
}

# Run a command that changes something, or print it.
run() {
    if [ -n "$dry_run" ]; then
        printf 'would run:'
        printf ' %q' "$@"
        printf '\n'
    else
        "$@"
    fi
}

# The same as the owner of the pictures, whose files and cache the device uses.
as_learner() { run runuser -u "$learner" -- env HOME="$user_home" "$@"; }

# Write stdin to a file, whole or not at all, if it holds something else; true if it was changed.
put() {
    local file=$1 mode=$2 owner=$3 text
    text=$(cat)
    if [ -f "$file" ] && [ "$(cat "$file")" = "$text" ]; then
        return 1
    fi
    if [ -n "$dry_run" ]; then
        printf 'would write: %s\n' "$file"
        return 0
    fi
    # Told apart here, as bash does not end by itself where the answer is looked at.
    if ! { install -D -m "$mode" -o "$owner" /dev/stdin "$file.new" <<<"$text" && sync "$file.new" && mv "$file.new" "$file"; }; then
        rm -f "$file.new"
        fail "Cannot write $file, see above; it is as it was. Is there room on its disk?"
    fi
}

parse() {
    local value
    while [ $# -gt 0 ]; do
        case $1 in
        -h | --help) usage && exit 0 ;;
        --dry-run) dry_run=yes && shift && continue ;;
        --no-service) service= && shift && continue ;;
        esac
        [ $# -ge 2 ] || wrong "$1 needs a value, or is no option"
        value=$2
        case $1 in
        --broker) broker=$(plain "$1" "$value") || exit ;;
        -f | --federation) federation=$(plain "$1" "$value") || exit ;;
        -b | --bundle) bundle=$(folder "$1" "$value") || exit ;;
        -m | --model) model=$(folder "$1" "$value") || exit ;;
        -p | --pictures) pictures=$(folder "$1" "$value") || exit ;;
        --home) home_folder=$(realpath -m -- "$value") ;;
        --user) learner=$value ;;
        --package) package=$value ;;
        --wheel)
            [ -n "${takes_wheel:-}" ] || wrong "there is no option $1"
            wheel=$(file "$1" "$value") || exit
            ;;
        --invitation-file) invitation=$(file "$1" "$value") || exit ;;
        --ca | --certificate | --key | --password-file)
            value=$(file "$1" "$value") || exit
            options+=("$1" "$(word "$1" "$value")") || exit
            ;;
        --trust) # fingerprints are shown in groups
            value=$(plain "$1" "${value// /}") || exit
            options+=("$1" "$value")
            ;;
        --username | --device-id)
            value=$(plain "$1" "$value") || exit
            options+=("$1" "$(word "$1" "$value")") || exit
            ;;
        *) wrong "there is no option $1" ;;
        esac
        shift 2
    done
    [ -n "$broker" ] || wrong "name the broker: --broker mqtts://host"
    [ -n "$federation" ] || wrong "name the federation: -f NAME"
    [ -n "$bundle" ] || wrong "name the bundle: -b FOLDER"
    [ -n "$model" ] || wrong "name the base model: -m FOLDER"
    [ -n "$pictures" ] || wrong "name the folder of pictures: -p FOLDER"
}

folder() {
    [ -d "$2" ] || wrong "$1 $2 is no folder"
    plain "$1" "$(realpath -- "$2")"
}

file() {
    [ -f "$2" ] || wrong "$1 $2 is no file"
    plain "$1" "$(realpath -- "$2")"
}

# systemd's files know quotes and variables: names that would need them are refused.
plain() {
    case $2 in
    *[\"\'\\\$\`]* | *[[:cntrl:]]*) wrong "$1 $2 has a character that systemd's settings cannot hold: use another name" ;;
    esac
    printf '%s\n' "$2"
}

# What stands in one line with others is split at spaces.
word() {
    case $2 in
    *[[:space:]]*) wrong "$1 $2 has a space, which systemd's settings cannot hold here: use another name" ;;
    esac
    printf '%s\n' "$2"
}

check_machine() {
    case $(uname -m) in
    aarch64 | x86_64) ;;
    *) fail "This system is $(uname -m): Impasto needs a 64-bit one, as onnxruntime and torch have no others. Write the 64-bit image to the card." ;;
    esac
    [ -n "$dry_run" ] || [ "$(id -u)" = 0 ] || fail "This installs packages and a service: run it with sudo, or look first with --dry-run."
    id -u "$learner" >/dev/null 2>&1 || fail "There is no user $learner here: name one with --user."
    [ "$(id -u "$learner")" != 0 ] || [ -n "$dry_run" ] || fail "Name the user whose pictures these are: --user NAME. The service should not run as root."
    command -v apt-get >/dev/null || fail "There is no apt-get here: this script is for Debian and Ubuntu and their kin."
    command -v systemctl >/dev/null || [ -z "$service" ] || fail "There is no systemd here: give --no-service, and start impasto join by other means."
    user_home=$(getent passwd "$learner" | cut -d: -f6)
    home_folder=${home_folder:-$user_home/.impasto}
    local free
    free=$(df -Pk / | awk 'NR == 2 { print int($4 / 1024) }')
    [ "$free" -ge 3000 ] || [ -x "$venv/bin/impasto" ] || fail "There are $free MB free on /, and the installation takes about 3000: free some, or use a larger card."
}

install_impasto() {
    say "Python and Impasto in $venv"
    if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
        run apt-get update -qq || true # one source that does not answer may not matter
        run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv ca-certificates ||
            fail "apt-get could not install python3-venv, see above: is the board online, and its clock right?"
    fi
    if [ -z "$dry_run" ] || command -v python3 >/dev/null; then
        python3 -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' ||
            fail "Impasto needs Python 3.10 to 3.13, and this is $(python3 -V): take an image with one of those."
    fi
    [ -x "$pip" ] || run python3 -m venv "$venv"
    # The set of versions that the tests run with; on aarch64 it has the last torch without CUDA libraries.
    run "$pip" install --quiet --disable-pip-version-check -c "$source_folder/constraints.txt" "$package[train]" ||
        fail "pip could not install Impasto, see above: is the board online, its clock right, and is there room on /? The same command goes on."
    run "$pip" check || fail "What pip has installed does not fit together, see above: delete $venv, and run the same command again."
    board_wheels
}

check_limits() {
    say "Limits of memory"
    if grep -qw memory "$cgroups/cgroup.controllers" 2>/dev/null; then
        return
    fi
    board_memory
    say "The memory controller will be on after a restart: sudo reboot, then the same command again."
    [ -n "$dry_run" ] || exit 3
}

look() {
    say "The board and the bundle"
    as_learner "$venv/bin/impasto" doctor --bundle "$bundle" || fail "The bundle cannot be used, see above: copy it here again."
    say "The way to federation $federation"
    as_learner "$venv/bin/impasto" doctor --broker "$broker" --federation "$federation" "${options[@]}" ||
        fail "Something on the way to the federation is broken, see above. Mend it, and run the same command again."
}

prepare() {
    say "Preparing the bundle for this processor"
    as_learner "$venv/bin/impasto" prepare "$bundle" ||
        fail "The bundle could not be prepared, see above. On a small disk name a place for it: IMPASTO_CACHE=/mnt/ssd/impasto."
}

install_service() {
    local changed= extra
    say "The service impasto-device@$learner"
    [ -d "$home_folder" ] || run install -d -m 0700 -o "$learner" "$home_folder" ||
        fail "Cannot make the folder $home_folder, see above: name another one with --home."
    if [ -n "$invitation" ]; then
        put "$settings/$learner.invitation" 0600 "$learner" <"$invitation" && changed=yes
        options+=(--invitation-file "$settings/$learner.invitation")
    elif [ -f "$settings/$learner.invitation" ] && grep -qxF "FEDERATION=\"$federation\"" "$settings/$learner.env"; then
        options+=(--invitation-file "$settings/$learner.invitation") # of an earlier run
    fi
    extra="${options[*]}"
    put "$settings/$learner.env" 0640 root <<END && changed=yes
BROKER="$broker"
FEDERATION="$federation"
BUNDLE="$bundle"
MODEL="$model"
PICTURES="$pictures"
HOME_FOLDER="$home_folder"
IMPASTO_CACHE="${IMPASTO_CACHE:-}"
OPTIONS=$extra
END
    put "$units/impasto-device@.service" 0644 root <"$here/impasto-device@.service" && changed=yes
    # time-sync.target waits for the time only if the one who sets it says so.
    if systemctl is-enabled --quiet systemd-timesyncd 2>/dev/null; then
        run systemctl enable --quiet systemd-time-wait-sync.service
    fi
    run systemctl daemon-reload
    run systemctl enable --quiet "impasto-device@$learner.service"
    if [ -n "$changed" ]; then
        run systemctl restart --no-block "impasto-device@$learner.service"
    else
        run systemctl start --no-block "impasto-device@$learner.service"
    fi
    say "Done. What it does: systemctl status impasto-device@$learner; what it said: journalctl -u impasto-device@$learner"
}

main() {
    parse "$@"
    board_check
    check_machine
    install_impasto
    [ -z "$service" ] || check_limits
    look
    prepare
    [ -z "$service" ] || install_service
}

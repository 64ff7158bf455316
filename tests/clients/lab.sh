# Sourced by the runners: where outside clients are installed once, and how Debian's packages get in.
# WEIR_LAB moves the folder; it is a cache and may be deleted at any time.
lab=${WEIR_LAB:-${XDG_CACHE_HOME:-$HOME/.cache}/weir-lab}; mkdir -p "$lab" || exit 2
export WEIR_LAB=$lab
# debian PACKAGE...: installs what is absent. One apt at a time: two at once fail on the lock instead of waiting.
debian() {
  dpkg -s "$@" > /dev/null 2>&1 && return
  ( flock 9; dpkg -s "$@" > /dev/null 2>&1 && exit
    [ "$(id -u)" = 0 ] || { echo "needs Debian's packages $*: install them as root" >&2; exit 2; }
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -q "$@" || { apt-get update -q && apt-get install -y -q "$@"; } ) 9> "$lab/apt.lock" >&2
}
# need COMMAND PACKAGE: a language's own tool; Debian's package when it is absent
need() { command -v "$1" > /dev/null || debian "$2"; }
# logs NAME: a new folder for the logs of one run, under WEIR_LOGS (the lab's own logs by default)
logs() { mkdir -p "${WEIR_LOGS:-$WEIR_LAB/logs}" && mktemp -d "${WEIR_LOGS:-$WEIR_LAB/logs}/$1.XXXX"; }
# alone NAME: from here until `together` no other process installs NAME; two at once would spoil each other's files
alone() { exec 8> "$WEIR_LAB/$1.lock" && flock 8; }
together() { exec 8>&-; }

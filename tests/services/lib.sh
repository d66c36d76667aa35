# Sourced by tests/run and the services: the cache, what has to be installed, free ports. Nothing here knows a service.
set -euo pipefail
cache=${XDG_CACHE_HOME:-$HOME/.cache}/streammanager

# once NAME COMMAND…: runs COMMAND with a fresh folder as its last argument, which becomes $cache/NAME only when it succeeded.
# Runs side by side wait for each other, and none sees half an install.
once() {
  local name=$1 dir=$cache/$1 rc=0
  shift
  mkdir -p "$cache"
  (
    flock 9
    [ ! -e "$dir" ] || exit 0
    rm -rf "$dir.new"
    mkdir "$dir.new"
    "$@" "$dir.new" >"$dir.log" 2>&1 </dev/null 9>&- || exit 1
    mv "$dir.new" "$dir"
  ) 9>"$cache/.lock-$name" || rc=$?
  ((rc == 0)) || { echo "cannot install $name:"; tail -n 5 "$dir.log"; } >&2
  return "$rc"
}

# need COMMAND PACKAGE…: true when COMMAND is there, if necessary after installing Debian's PACKAGEs.
need() {
  local command=$1 as=()
  shift
  command -v "$command" >/dev/null && return
  command -v apt-get >/dev/null || return
  if ((EUID != 0)); then
    command -v sudo >/dev/null || return
    as=(sudo)
    [ -t 0 ] || as+=(-n)
  fi
  echo "installing $* for $command"
  mkdir -p "$cache"
  local apt=("${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "$@"; } >"$cache/apt.log" 2>&1 ||
    { tail -n 5 "$cache/apt.log"; return 1; }
  command -v "$command" >/dev/null
}

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port: a port that is free together with the four after it, below the range that outgoing connections take.
free_port() {
  local port next
  while :; do
    port=$((20000 + RANDOM % 12000))
    for next in {0..4}; do ! port_open $((port + next)) || continue 2; done
    echo "$port"
    return
  done
}

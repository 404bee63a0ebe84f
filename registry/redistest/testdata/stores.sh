#!/usr/bin/env bash
# Runs the tests that talk to a real Redis against Debian's redis-server, valkey-server and whatever else STORES names, of the release SUITE. Debian's
# packages are fetched from the mirror that this machine uses, into the directory that is the only argument, and run from there: the
# machine's own packages stay as they are. A store that cannot be had is said so, and left out. Exit code 0: all tests passed, on one store at least.
set -euo pipefail

suite=${SUITE:-trixie}
stores=${STORES:-redis-server valkey-server}
dir=$(realpath -m "${1:?which directory may the servers be put into?}")
cd "$(dirname "$0")/../../.."

# mirror prints where this machine gets the packages of its own release.
mirror() {
  local release
  release=$(. /etc/os-release && echo "$VERSION_CODENAME")
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v release="$release" '$2 == release && $3 == "main" {print $1; exit}'
}

# keyring has the keys of all of Debian's releases, where it is installed. Without it, those count that apt trusts anyway.
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# apt is apt-get with lists, archives and a state of its own.
apt() {
  apt-get -qq -o Dir="$dir/apt" -o Dir::State::status="$dir/apt/status" -o Dir::Etc::sourcelist="$dir/apt/sources.list" \
    -o Dir::Etc::trusted=/etc/apt/trusted.gpg -o Dir::Etc::trustedparts=/etc/apt/trusted.gpg.d/ -o APT::Sandbox::User= -o APT::Immediate-Configure=false -o APT::Install-Recommends=false \
    -o Dir::Cache::archives="$dir/apt/archives/${2:-none}/" -o Debug::NoLocking=true "$@"
}

# fetch_lists prepares all that apt needs.
fetch_lists() {
  local uri signed=''
  uri=$(mirror) || true
  [ -n "$uri" ] || { echo 'no source of packages of this release is known here' >&2; return 1; }
  [ ! -e $keyring ] || signed="[signed-by=$keyring] "
  mkdir -p "$dir/apt/etc/apt/"{sources.list.d,preferences.d} "$dir/apt/var/lib/apt/lists/partial" "$dir/apt/archives/none/partial"
  : > "$dir/apt/status"
  echo "deb $signed$uri $suite main" > "$dir/apt/sources.list"
  apt update
}

# fetch unpacks a package and all it depends on, and makes a command of its server that runs with those libraries. It prints its path.
fetch() {
  local store=$1 root=$dir/$1 archives=$dir/apt/archives/$1 loader libraries
  mkdir -p "$archives/partial" "$root"
  apt install "$store" --yes --download-only >&2
  local package
  for package in "$archives"/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" --keep-directory-symlink --exclude=./dev
  done
  loader=$(find "$root" -name 'ld-linux*.so.*' -type f -print -quit)
  libraries=$(dirname "$(find "$root" -name libc.so.6 -print -quit)")
  [ -n "$loader" ] && [ -e "$root/usr/bin/$store" ] || { echo "$store: there is no server in the package" >&2; return 1; }
  printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' "$loader" "$libraries" "$root/usr/bin/$store" > "$dir/$store.sh"
  chmod 755 "$dir/$store.sh"
  "$dir/$store.sh" --version >&2
  echo "$dir/$store.sh"
}

# try runs the tests against a server.
try() {
  local failed=0
  export RINGBACK_REDIS_SERVER=$1
  go test -count 1 ./registry/... ./dispatcher/ledger ./dispatcher/lanes || failed=1
  go test -count 1 -run 'Redis|Cluster|Kill|Crash' ./dispatcher || failed=1
  go test -count 1 -run 'EndToEnd|Serve|Doctor|Redis|Cluster|Sentinel|DataOfModelOne|OperatorsPage$' ./cmd/ringback || failed=1
  (cd cmd/faults && go test -count 1 -parallel 8 ./...) || failed=1
  return $failed
}

mkdir -p "$dir"
had=0 failed=''
if fetch_lists; then
  for store in $stores; do
    if ! server=$(fetch "$store"); then
      echo "$store of $suite cannot be had here, and is left out" >&2
      continue
    fi
    had=$((had + 1))
    "$server" --version
    if try "$server" > "$dir/$store.log" 2>&1; then
      grep -aE '^ok[[:space:]]' "$dir/$store.log"
    else
      grep -aE '^(ok|FAIL|panic)[[:space:]:]|^ *--- FAIL|_test.go:' "$dir/$store.log" || true
      failed="$failed $store"
    fi
  done
fi
[ -z "$failed" ] || { echo "tests failed on$failed: see the logs in $dir" >&2; exit 1; }
[ "$had" -gt 0 ] || { echo 'no store could be had' >&2; exit 1; }

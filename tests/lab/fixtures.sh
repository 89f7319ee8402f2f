#!/bin/bash
# fixtures.sh - real releases for the tests, from Debian's source packages and from PyPI, once.
# Prints the directory. Uses a private apt configuration; the host's own is only read for its mirror.
set -euo pipefail
home=${LAB_HOME:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/target/lab}
out=$home/cache/fixtures; mkdir -p "$out"; exec 8>"$home/cache/fixtures.lock"; flock 8
have() { local f; for f in "$@"; do [ -s "$out/$f" ] || return 1; done; }
if ! have wordpress-6.1.9.tar.xz wordpress-6.8.7.tar.xz mediawiki-1.39.17.tar.gz mediawiki-1.43.9.tar.gz dokuwiki-2022-07-31a.tgz; then
  apt=$home/fixtures-apt; mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/get"; : >"$apt/status"
  mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | awk '!/^#/ { for (i = 1; i <= NF; i++) if ($i ~ /^https?:.*\/debian\/?$/) { sub(/\/debian\/?$/, "", $i); print $i; exit } }' || true)
  for suite in bookworm trixie; do
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror/debian $suite main"
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror/debian-security $suite-security main"
  done >"$apt/sources.list"
  cat >"$apt/apt.conf" <<C
Dir::Etc::SourceList "$apt/sources.list"; Dir::Etc::SourceParts "/dev/null"; Dir::State "$apt"; Dir::State::status "$apt/status"; Dir::Cache "$apt/cache"; APT::Sandbox::User "root";
C
  export APT_CONFIG=$apt/apt.conf
  apt-get update -qq
  # Only the upstream tarball counts; of some, Debian's own part is served no more.
  (cd "$apt/get" && for source in wordpress=6.1.9+dfsg1-0+deb12u1 wordpress=6.8.7+dfsg1-0+deb13u1 mediawiki=1:1.39.17-1+deb12u2 \
    mediawiki=1:1.43.9+dfsg-1~deb13u1 dokuwiki=0.0.20220731.a-2; do apt-get source -qq --download-only "$source" >/dev/null 2>&1 || true; done)
  take() {  # FILE NAME: check it against its .dsc
    local sum; sum=$(sha256sum "$apt/get/$1" | cut -d' ' -f1)
    grep -qs "^ $sum [0-9]* $1\$" "$apt/get"/*.dsc || { echo "fixtures: $1 is not what its .dsc says" >&2; exit 1; }
    cp "$apt/get/$1" "$out/$2"
  }
  take wordpress_6.1.9+dfsg1.orig.tar.xz wordpress-6.1.9.tar.xz
  take wordpress_6.8.7+dfsg1.orig.tar.xz wordpress-6.8.7.tar.xz
  take mediawiki_1.39.17.orig.tar.gz mediawiki-1.39.17.tar.gz
  take mediawiki_1.43.9+dfsg.orig.tar.gz mediawiki-1.43.9.tar.gz
  take dokuwiki_0.0.20220731.a.orig.tar.gz dokuwiki-2022-07-31a.tgz
  rm -rf "$apt"
fi
if [ ! -e "$out/pypi/done" ]; then
  mkdir -p "$out/pypi"
  for python in 3.11 3.13; do
    python3 -m pip download -q --no-cache-dir --only-binary :all: --python-version $python --platform manylinux2014_x86_64 --platform any -d "$out/pypi" radicale==3.9.0 wheel setuptools 2>/dev/null
  done
  : >"$out/pypi/done"
fi
echo "$out"

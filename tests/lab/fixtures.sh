#!/bin/bash
# fixtures.sh - real releases for the tests, from Debian's source packages and from PyPI, once. Prints their directory; its file
# `versions` has a line each: APP SERIES DEBIAN-VERSION VERSION FILE SHA256. The host's own apt is only read for its mirror.
set -euo pipefail; shopt -s inherit_errexit
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=${LAB_HOME:-$here/../../target/lab}; mkdir -p "$home"; home=$(realpath "$home")
cache=${LAB_CACHE:-$home/cache} apt=$home/fixtures-apt out=${LAB_CACHE:-$home/cache}/fixtures
mkdir -p "$out/pypi"; exec 8>"$cache/fixtures.lock"; flock 8
die() { echo "fixtures: $*" >&2; exit 1; }

# APP, series and version as Debian writes them, version as upstream writes it, kind of file
fixtures='
wordpress 6.1 6.1.9 6.1.9 tar.xz
wordpress 6.8 6.8.7 6.8.7 tar.xz
mediawiki 1.39 1.39.17 1.39.17 tar.gz
mediawiki 1.43 1.43.9 1.43.9 tar.gz
dokuwiki 0.0.20220731 0.0.20220731.a 2022-07-31a tgz'

apt_private() {  # an apt of our own: other suites than the host's, sources only
  [ ! -e "$apt/ready" ] || return 0
  local mirror suite; mirror=${LAB_MIRROR:-$("$here/lab.sh" apt-mirror)}; [ -n "$mirror" ] || die "no Debian mirror in the host's apt sources: set LAB_MIRROR"
  rm -rf "$apt"; mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"; : >"$apt/status"
  for suite in bookworm trixie; do
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror/debian $suite main"
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror/debian-security $suite-security main"
  done >"$apt/sources.list"
  printf '%s "%s";\n' Dir::Etc::SourceList "$apt/sources.list" Dir::Etc::SourceParts /dev/null Dir::State "$apt" \
    Dir::State::status "$apt/status" Dir::Cache "$apt/cache" APT::Sandbox::User root >"$apt/apt.conf"
  APT_CONFIG=$apt/apt.conf apt-get update -qq; : >"$apt/ready"
}
upstream() { sed 's/^[0-9]*://; s/-[^-]*$//; s/[+]dfsg.*//'; }
choose() {  # APP SERIES VERSION: the Debian version that carries VERSION, else the newest of its series
  local all exact; all=$(APT_CONFIG=$apt/apt.conf apt-cache showsrc --only-source "$1" | sed -n 's/^Version: //p' | sort -uV)
  exact=$(while read -r v; do if [ "$(upstream <<<"$v")" = "$3" ]; then echo "$v"; fi; done <<<"$all" | tail -n 1)
  if [ -n "$exact" ]; then echo "$exact"; else
    while read -r v; do if [[ $(upstream <<<"$v") == "$2"* ]]; then echo "$v"; fi; done <<<"$all" | tail -n 1; fi
}
fetch() {  # APP SERIES VERSION UPSTREAM KIND
  local app=$1 name=$4 deb orig sum
  if grep -qs "^$app $2 $3 " "$out/versions" && [ -s "$out/$(awk -v a="$app" -v s="$2" '$1==a && $2==s {print $5}' "$out/versions")" ]; then return; fi
  apt_private; deb=$(choose "$app" "$2" "$3"); [ -n "$deb" ] || die "Debian has no $app $2"
  if [ "$(upstream <<<"$deb")" != "$3" ]; then name=$(upstream <<<"$deb"); echo "fixtures: $app $4 is served no more, taking $name" >&2; fi
  rm -rf "$apt/get"; mkdir "$apt/get"
  # Only the upstream tarball counts; of some packages Debian's own part is served no more.
  (cd "$apt/get" && APT_CONFIG=$apt/apt.conf apt-get source -q --download-only "$app=$deb" >"$apt/log" 2>&1) || true
  orig=$(cd "$apt/get" && compgen -G "${app}_*.orig.tar.?z") || { tail -n 5 "$apt/log" >&2; die "$app=$deb does not download"; }
  sum=$(sha256sum "$apt/get/$orig" | cut -d' ' -f1)
  grep -qs "^ $sum $(stat -c %s "$apt/get/$orig") $orig\$" "$apt/get"/*.dsc || die "$orig is not what its .dsc says"
  if [ -s "$apt/get/$orig.asc" ]; then mv "$apt/get/$orig.asc" "$out/$app-$name.$5.sig"; fi
  mv "$apt/get/$orig" "$out/$app-$name.$5"
  { grep -sv "^$app $2 " "$out/versions" || true; echo "$app $2 $3 $name $app-$name.$5 $sum"; } >"$out/versions.new"; mv "$out/versions.new" "$out/versions"
}
while read -r app series version name kind; do
  [ -z "$app" ] || fetch "$app" "$series" "$version" "$name" "$kind"
done <<<"$fixtures"
rm -rf "$apt"

if [ ! -e "$out/pypi/done" ]; then  # for the Python of Debian 12 and of Debian 13
  for python in 3.11 3.13; do
    python3 -m pip download -q --no-cache-dir --only-binary :all: --python-version $python --platform manylinux2014_x86_64 --platform any \
      -d "$out/pypi" radicale==3.9.0 wheel setuptools
  done
  : >"$out/pypi/done"
fi
echo "$out"

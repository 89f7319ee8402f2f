#!/bin/bash
# fixtures.sh - real releases for the tests, from Debian's source packages and from PyPI, once. Prints their directory; its file
# `versions` has a line each: APP SERIES DEBIAN-VERSION VERSION FILE SHA256. The host's own apt is only read for its mirror.
# Each release is named with its digest and taken from the pool, which keeps a file for a while after the index left it, and which
# at times does not have yet what the index names. Only when it is gone is the newest of its series taken by the index.
set -euo pipefail; shopt -s inherit_errexit
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=${LAB_HOME:-$here/../../target/lab}; mkdir -p "$home"; home=$(realpath "$home")
cache=${LAB_CACHE:-$home/cache} apt=$home/fixtures-apt out=${LAB_CACHE:-$home/cache}/fixtures
mkdir -p "$out/pypi"; exec 8>"$cache/fixtures.lock"; flock 8
die() { echo "fixtures: $*" >&2; exit 1; }

# APP, series, version as Debian writes it, version as upstream writes it, kind of file, name in the pool, SHA-256
fixtures='
wordpress 6.1 6.1.9 6.1.9 tar.xz wordpress_6.1.9+dfsg1.orig.tar.xz 42faeb7b4c5cd0e57cfe9863ed6d2758ace8dcdb4e95f0e382dbe737464f36c0
wordpress 6.8 6.8.7 6.8.7 tar.xz wordpress_6.8.7+dfsg1.orig.tar.xz 052ab5d006571e9998919ebaf956b80a3342e5184b5a44fee65588ca34e88c5f
mediawiki 1.39 1.39.17 1.39.17 tar.gz mediawiki_1.39.17.orig.tar.gz 2c5853d034d0c3e75160e8104125226fab964d7ed37732f83e7204781fab07b9
mediawiki 1.43 1.43.9 1.43.9 tar.gz mediawiki_1.43.9+dfsg.orig.tar.gz 3ce10f2f725e11c9da07a0e4f9db7cc7a761ec24a709e9efce6230c08050a9e2
dokuwiki 0.0.20220731 0.0.20220731.a 2022-07-31a tgz dokuwiki_0.0.20220731.a.orig.tar.gz 48ed2ae11fa4a0ae8338af9aedc837601b34e21c0be15d16e2d6228ca7a91f23'

mirror() { local mirror; mirror=${LAB_MIRROR:-$("$here/lab.sh" apt-mirror)}; [ -n "$mirror" ] || die "no Debian mirror in the host's apt sources: set LAB_MIRROR"; echo "$mirror"; }
apt_private() {  # an apt of our own: other suites than the host's, sources only
  [ ! -e "$apt/ready" ] || return 0
  local mirror suite; mirror=$(mirror)
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
pooled() {  # APP FILE SHA256: into $out/FILE.part, from the pool of the archive or of its security updates
  local pool mirror; mirror=$(mirror)
  for pool in debian/pool/main debian-security/pool/updates/main; do
    curl -fsSL --retry 3 -o "$out/$2.part" "$mirror/$pool/${1:0:1}/$1/${2//+/%2b}" 2>/dev/null || continue
    if [ "$(sha256sum "$out/$2.part" | cut -d' ' -f1)" = "$3" ]; then return 0; fi
  done
  rm -f "$out/$2.part"; return 1
}
candidates() {  # APP SERIES: Debian versions of the series, the newest first
  apt_private
  APT_CONFIG=$apt/apt.conf apt-cache showsrc --only-source "$1" | sed -n 's/^Version: //p' | sort -urV |
    while read -r v; do if [[ $(upstream <<<"$v") == "$2"* ]]; then echo "$v"; fi; done
}
indexed() {  # APP DEBIAN-VERSION: the upstream tarball into $apt/get, its name into $orig
  rm -rf "$apt/get"; mkdir "$apt/get"
  # Only the upstream tarball counts; of some packages Debian's own part is served no more.
  (cd "$apt/get" && APT_CONFIG=$apt/apt.conf apt-get source -q --download-only "$1=$2" >"$apt/log" 2>&1) || true
  orig=$(cd "$apt/get" && compgen -G "${1}_*.orig.tar.?z") || { tail -n 5 "$apt/log" >&2; return 1; }
  grep -qs "^ $(sha256sum "$apt/get/$orig" | cut -d' ' -f1) $(stat -c %s "$apt/get/$orig") $orig\$" "$apt/get"/*.dsc || die "$orig is not what its .dsc says"
}
fetch() {  # APP SERIES VERSION UPSTREAM KIND FILE SHA256
  local app=$1 name=$4 deb orig='' sum=$7
  if grep -qs "^$app $2 $3 " "$out/versions" && [ -s "$out/$(awk -v a="$app" -v s="$2" '$1==a && $2==s {print $5}' "$out/versions")" ]; then return; fi
  if pooled "$app" "$6" "$7"; then mv "$out/$6.part" "$out/$app-$name.$5"
  else
    for deb in $(candidates "$app" "$2"); do if indexed "$app" "$deb"; then break; fi; done
    [ -n "$orig" ] || die "$app $4 is in no pool, and no $2 of the index downloads"
    if [ "$(upstream <<<"$deb")" != "$3" ]; then name=$(upstream <<<"$deb"); echo "fixtures: $app $4 is served no more, taking $name" >&2; fi
    sum=$(sha256sum "$apt/get/$orig" | cut -d' ' -f1); mv "$apt/get/$orig" "$out/$app-$name.$5"
  fi
  { grep -sv "^$app $2 " "$out/versions" || true; echo "$app $2 $3 $name $app-$name.$5 $sum"; } >"$out/versions.new"; mv "$out/versions.new" "$out/versions"
}
while read -r app series version name kind file sum; do
  [ -z "$app" ] || fetch "$app" "$series" "$version" "$name" "$kind" "$file" "$sum"
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

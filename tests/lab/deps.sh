#!/bin/bash
# deps.sh - Debian packages the lab needs on its host. Asks the package database first, so it costs nothing when all is there.
set -euo pipefail
need=(apt-utils bind9 btrfs-progs ca-certificates curl debhelper dnsmasq-base dpkg-dev e2fsprogs gnupg iproute2 knot libfaketime lintian mmdebstrap nftables openssh-client openssh-server openssh-sftp-server
  openssl pebble postgresql rclone restic strace
  systemd-container util-linux xfsprogs xz-utils zstd)
command -v python3 >/dev/null || need+=(python3-minimal)
python3 -m pip --version >/dev/null 2>&1 || need+=(python3-pip)
missing=()
for package in "${need[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
echo "lab: installing ${missing[*]}" >&2
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

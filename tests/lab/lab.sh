#!/bin/bash
# lab.sh - real Debian systems (systemd as PID 1, D-Bus, own network, own disk) as "rented
# dedicated servers" under systemd-nspawn, on a host whose own PID 1 need not be systemd.
#
#   lab.sh deps                     install what the host needs (apt); quick when it is there
#   lab.sh image [NAME]             build image NAME if missing (default: base-SUITE); prints its path:
#                                   base-SUITE as rented, web-SUITE with nginx, MariaDB, PostgreSQL, PHP, Python,
#                                   cloud-SUITE as rented where user data is given: with cloud-init (and lintian)
#   lab.sh net up|down              the lab's switch (an own netns), its DNS and mirror; down stops ALL machines
#   lab.sh mirror                   start the download site if it is not up; prints its address
#   lab.sh up NAME IP [IMAGE]       make the machine's disk if it has none, boot, wait until ready
#   lab.sh exec NAME CMD...         run CMD as a unit of the machine's own systemd; stdio and exit code pass through
#   lab.sh in CMD...                run CMD of the host on the lab's switch: the outside world of the machines
#   lab.sh shell NAME [CMD...]      raw nsenter (no unit, host capabilities): debugging only
#   lab.sh push NAME SRC DST        copy a host file into the machine's root
#   lab.sh localapt NAME            let a machine install packages from the lab's own repository only
#   lab.sh down NAME                clean poweroff, disk kept
#   lab.sh kill NAME                power cut: what the disk had not received is lost, disk kept
#   lab.sh rm NAME                  kill if running, destroy the disk
#   lab.sh commit NAME IMAGE        clean poweroff, keep the disk as IMAGE ("app-ready" layer)
#   lab.sh layer IMAGE NEW SRC DST ...
#                                   make image NEW if missing: IMAGE with these host files in it. What differs from NEW
#                                   in its last eight characters only was made before it and goes
#   lab.sh cut NAME | heal NAME     unplug / replug the network cable
#   lab.sh part A B | join A B      drop / restore everything between two machines
#   lab.sh disk NAME SIZE [DEV]     plug an empty disk into a running machine as /dev/DEV (default vdb)
#   lab.sh uplink on [IP]|off       NAT lab (or one machine) -> host network, for apt inside machines; off by default
#   lab.sh status | log NAME        list machines | console log
#   lab.sh clean                    stop and remove everything but the image cache
set -euo pipefail; shopt -s inherit_errexit
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LAB_HOME=${LAB_HOME:-$here/../../target/lab}   # all state; disposable
mkdir -p "$LAB_HOME"; LAB_HOME=$(realpath "$LAB_HOME"); hash=$(sha256sum <<<"$LAB_HOME")
LAB_CACHE=${LAB_CACHE:-$LAB_HOME/cache}   # what was downloaded: worth keeping
LAB_ID=${LAB_ID:-lab${hash:0:4}}          # prefix of netns, cgroups and links: labs of two directories coexist
LAB_SUBNET=${LAB_SUBNET:-10.77.0}         # /24, gateway, DNS and mirror at .1; in an own netns, so labs may share it
LAB_UPNET=${LAB_UPNET:-10.76.$((0x${hash:4:2}))}   # /30 to the host, exists only while the uplink is on
LAB_DOMAIN=${LAB_DOMAIN:-lab.test}
LAB_FS=${LAB_FS:-ext4}                    # file system of the machines' disks: btrfs | ext4 | xfs
LAB_DISK=${LAB_DISK:-16G}                 # disk size a machine sees (sparse)
LAB_POOL=${LAB_POOL:-60G}                 # size of the pool file (sparse)
LAB_MEM=${LAB_MEM:-}                      # memory ceiling per machine, e.g. 4G ('' = none)
LAB_SUITE=${LAB_SUITE:-trixie}
LAB_PKGS=${LAB_PKGS:-systemd,systemd-sysv,dbus,libpam-systemd,udev,kmod,iproute2,iputils-ping,nftables,ca-certificates,openssl,openssh-server,curl,procps,sudo,less,btrfs-progs,xz-utils,python3-minimal}
# What the recipes install; PostgreSQL and all of PHP so that one image serves every test.
LAB_WEB_PKGS=nginx-light,mariadb-server,postgresql,php-fpm,php-cli,php-mysql,php-pgsql,php-curl,php-gd,php-intl,php-mbstring,php-xml,php-zip,php-apcu,php-bcmath,python3-venv,xz-utils,unzip,strace
# Neither comes from the lab's own repository: a machine of this image is blank otherwise.
LAB_CLOUD_PKGS=cloud-init,lintian
LAB_OVERLAY=${LAB_OVERLAY:-}              # directory copied over the root of a new disk before its first boot
LAB_TIMEOUT=${LAB_TIMEOUT:-60}            # seconds to wait for boot and for poweroff

run=$LAB_HOME/run cache=$LAB_CACHE mnt=$LAB_HOME/mnt pool=$LAB_HOME/mnt/.pool
die() { echo "lab: $*" >&2; exit 1; }
say() { echo "lab: $*" >&2; }
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN{printf "%.2fs", b-a}'; }
valid() { [[ ${1:-} =~ ^[a-z][a-z0-9-]{0,10}$ ]] || die "bad name '${1:-}': a-z 0-9 -, at most 11 (it is part of an interface name)"; }
valid_image() { [[ ${1:-} =~ ^[a-z][a-z0-9-]{0,30}$ ]] || die "bad image name '${1:-}': a-z 0-9 -, at most 31"; }
# nsenter, not 'ip netns exec': the latter remounts /sys and so hides /sys/fs/cgroup from nspawn
in_ns() { local ns=$1; shift; nsenter --net="/run/netns/$ns" -- "$@"; }
lock() { mkdir -p "$LAB_HOME" "$run" "$cache" "$mnt"; exec 9>"$LAB_HOME/lock"; flock 9; }
unlock() { exec 9>&-; }
alive() { local s; [ -n "${1:-}" ] && read -r s 2>/dev/null <"/proc/$1/stat" && [[ ${s##*) } != [ZX]* ]]; }   # a zombie is dead
host_mirror() {  # where the host's own apt gets Debian from
  cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
    awk '!/^#/ { for (i = 1; i <= NF; i++) if ($i ~ /^https?:.*\/debian\/?$/) { sub(/\/debian\/?$/, "", $i); print $i; exit } }' || true; }
readf() { cat "$1" 2>/dev/null || true; }

# ------------------------------------------------------------------ pool, images
pool_up() {  # one XFS with reflink in a sparse file: cloning a disk image is free
  # A booting machine copies every mount there is and keeps it out of sight. Below a shared mount an unmount reaches those copies
  # too; else the file system stays mounted, dirty, and a clone of its disk lacks what was written last.
  mountpoint -q "$mnt" || { mount -t tmpfs -o mode=755,size=16m lab-mnt "$mnt"; mount --make-shared "$mnt"; }
  ln -sfn mnt/.pool "$LAB_HOME/pool"
  mountpoint -q "$pool" 2>/dev/null && return
  mkdir -p "$pool"
  if [ ! -s "$LAB_HOME/pool.img" ]; then
    rm -f "$LAB_HOME/pool.new"; truncate -s "$LAB_POOL" "$LAB_HOME/pool.new"
    mkfs.xfs -q -m reflink=1 "$LAB_HOME/pool.new"; mv "$LAB_HOME/pool.new" "$LAB_HOME/pool.img"
  fi
  mount -o loop,noatime,discard "$LAB_HOME/pool.img" "$pool"
  mkdir -p "$pool/images" "$pool/disks"
}
unmount() {  # the namespace of a machine that just died may hold it for a moment
  local i; for ((i = 0; i < 100; i++)); do mountpoint -q "$1" 2>/dev/null || return 0; umount "$1" 2>/dev/null || sleep 0.05; done; die "$1 stays mounted"; }
mopt=loop,noatime; [ "$LAB_FS" != xfs ] || mopt=$mopt,nouuid   # clones share a UUID (btrfs: kernel 6.7+ copes by itself)
make_fs() { case $LAB_FS in
  btrfs) mkfs.btrfs -q -f "$1" >/dev/null 2>&1;; ext4) mkfs.ext4 -q -F "$1";; xfs) mkfs.xfs -q -f "$1";;
  *) die "LAB_FS=$LAB_FS: btrfs, ext4 or xfs";; esac; }
base_tar() {  # the one slow step (~25 s); its cache key is what went into it
  local suite=$1 tar t mirror; t=$(now); mirror=${LAB_MIRROR:-$(host_mirror)}
  tar=$cache/base-$suite-$(printf '%s\n' v1 "$suite" "$LAB_PKGS" | sha256sum | cut -c1-12).tar.zst
  if [ ! -s "$tar" ]; then
    [ -n "$mirror" ] || die "no Debian mirror in the host's apt sources: set LAB_MIRROR"
    mmdebstrap --quiet --variant=minbase --include="$LAB_PKGS" \
      --customize-hook='cd "$1" && rm -f etc/ssh/ssh_host_* var/lib/dbus/machine-id etc/hostname etc/resolv.conf && : >etc/machine-id' \
      --customize-hook='cd "$1" && for t in apt-daily apt-daily-upgrade; do ln -s /dev/null etc/systemd/system/$t.timer; done' \
      "$suite" "$tar.tmp.tar" "deb $mirror/debian $suite main" \
      "deb $mirror/debian $suite-updates main" "deb $mirror/debian-security $suite-security main" >&2
    zstd -q -T0 -3 --rm -f "$tar.tmp.tar" -o "$tar.tmp"; mv "$tar.tmp" "$tar"
    say "base tarball of $suite: $(since "$t"), $(du -h "$tar" | cut -f1)"
  fi
  echo "$tar"
}
image() {
  local n=${1:-base-$LAB_SUITE} img suite tar t; t=$(now); img=$pool/images/$n.$LAB_FS suite=${n#*-}
  lock; pool_up; unlock
  if [ ! -s "$img" ]; then
    exec 8>"$LAB_HOME/build.lock"; flock 8                # one builder at a time; machines go on meanwhile
    if [ ! -s "$img" ]; then
      case $n in
      base-trixie|base-bookworm) tar=$(base_tar "$suite");;
      web-trixie|web-bookworm) tar=$(more_tar web "$suite" "$LAB_WEB_PKGS");;
      cloud-trixie|cloud-bookworm) tar=$(more_tar cloud "$suite" "$LAB_CLOUD_PKGS");;
      *) die "no image '$n': up a machine, install into it, then 'lab.sh commit NAME $n'";;
      esac
      unpack_image "$tar" "$img"; say "image $n ($LAB_FS): $(since "$t")"
    fi
    exec 8>&-
  fi
  echo "$img"
}
unpack_image() {  # TAR IMAGE
  local m=$mnt/.build; mkdir -p "$m"; umount -q "$m" 2>/dev/null || true
  rm -f "$2.tmp"; truncate -s "$LAB_DISK" "$2.tmp"; make_fs "$2.tmp"; mount -o "$mopt" "$2.tmp" "$m"
  tar -x -I 'zstd -d' -f "$1" --numeric-owner --xattrs --xattrs-include='*' --warning=no-unknown-keyword -C "$m"
  unmount "$m"; mv "$2.tmp" "$2"
}
more_tar() {  # KIND SUITE PACKAGES: install in a machine; what a web image downloaded becomes the lab's own repository
  local kind=$1 suite=$2 pkgs=$3 n=mk-${1:0:3}-${2:0:4} ip=$LAB_SUBNET.250 repo= m=$mnt/.build log=$LAB_HOME/$1-$2.log base tar t; t=$(now)
  [ "$kind" != web ] || repo=$cache/apt-$suite
  base=$(base_tar "$suite")
  tar=$cache/$kind-$suite-$(printf '%s\n' v3 "${base##*/}" "$pkgs" | sha256sum | cut -c1-12).tar.zst
  if [ ! -s "$tar" ] || { [ -n "$repo" ] && [ ! -s "$repo/Packages" ]; }; then
    [ -s "$pool/images/base-$suite.$LAB_FS" ] || unpack_image "$base" "$pool/images/base-$suite.$LAB_FS"
    rm_machine "$n"; trap 'uplink off; rm_machine "'"$n"'"' EXIT
    up "$n" "$ip" "base-$suite"; uplink on "$ip"
    { "$0" exec "$n" apt-get update -qq && "$0" exec "$n" apt-get install -y -qq --no-install-recommends \
      -o Dpkg::Options::=--force-unsafe-io ${pkgs//,/ }; } </dev/null >"$log" 2>&1 || { tail -20 "$log" >&2; die "packages of $kind-$suite, see $log"; }
    uplink off
    if [ -n "$repo" ]; then
      rm -rf "$repo.new"; mkdir -p "$repo.new"; cp "$mnt/$n"/var/cache/apt/archives/*.deb "$repo.new/"
      (cd "$repo.new" && dpkg-scanpackages -m . >Packages 2>/dev/null); rm -rf "$repo"; mv "$repo.new" "$repo"
    fi
    poweroff_now "$n"; mkdir -p "$m"; umount -q "$m" 2>/dev/null || true; mount -o "$mopt" "$pool/disks/$n" "$m"; blank "$m"
    tar -c --numeric-owner --xattrs --xattrs-include='*' --warning=no-file-ignored -C "$m" . | zstd -q -T0 -3 -f -o "$tar.tmp"
    unmount "$m"; mv "$tar.tmp" "$tar"; rm_machine "$n"; trap - EXIT
    say "$kind tarball of $suite: $(since "$t"), $(du -h "$tar" | cut -f1)"
  fi
  echo "$tar"
}
blank() {  # forget what makes a root directory one machine's own
  : >"$1/etc/machine-id"
  rm -rf "$1"/var/lib/dbus/machine-id "$1"/etc/ssh/ssh_host_* "$1"/var/lib/systemd/{random-seed,credential.secret} \
    "$1"/var/log/journal/* "$1"/var/cache/apt/archives/*.deb "$1"/tmp/* "$1"/var/tmp/*
}
layer() {  # what a whole run of tests needs in each machine is written to the disk once
  local src img=$pool/images/$2.$LAB_FS base=$1 new=$2 m=$mnt/.layer; valid_image "$new"; shift 2
  src=$(image "$base"); [ ! -s "$img" ] || return 0
  lock; mkdir -p "$m"; umount -q "$m" 2>/dev/null || true
  if [ ! -s "$img" ]; then
    rm -f "$pool/images/${new%????????}"????????."$LAB_FS"
    cp --reflink=always "$src" "$img.tmp"; trap "umount -q '$m'; rm -f '$img.tmp'" EXIT; mount -o "$mopt" "$img.tmp" "$m"
    while [ $# -gt 1 ]; do mkdir -p "$m$(dirname "$2")"; cp "$1" "$m$2"; shift 2; done
    chroot "$m" systemd-sysusers
    unmount "$m"; trap - EXIT; mv "$img.tmp" "$img"
  fi
  unlock
}
rm_machine() { if [ -d "$run/$1" ]; then kill_all "$1"; settle "$1"; fi; rm -f "$pool/disks/$1" "$pool/disks/$1".*; }

# ------------------------------------------------------------------ network
net_up() {
  lock
  if [ ! -e "/run/netns/$LAB_ID" ]; then
    rm -f "$run/dnsmasq.pid" "$run/mirror.pid"              # of a lab that a reboot of the host took away
    ip netns add "$LAB_ID"; ip -n "$LAB_ID" link set lo up
    ip -n "$LAB_ID" link add br0 address 02:6c:61:62:00:01 type bridge forward_delay 0 stp_state 0   # fixed: else it changes with the ports
    ip -n "$LAB_ID" addr add "$LAB_SUBNET.1/24" dev br0; ip -n "$LAB_ID" link set br0 up
    in_ns "$LAB_ID" sysctl -qw net.ipv4.ip_forward=1
  fi
  mkdir -p "$LAB_HOME/hosts" /run/systemd/nspawn; : >>"$run/dns-upstream"
  # nspawn will not clean up after itself under /run/systemd/nspawn if that is a disk file system
  [ "$(stat -f -c %T /run/systemd/nspawn)" = tmpfs ] || mount -t tmpfs -o mode=755,size=16m lab-nspawn /run/systemd/nspawn
  alive "$(readf "$run/dnsmasq.pid")" || in_ns "$LAB_ID" dnsmasq --conf-file=/dev/null --no-resolv --no-hosts --user=root \
      --bind-interfaces --listen-address="$LAB_SUBNET.1" --local="/$LAB_DOMAIN/" --local-ttl=1 --addn-hosts="$LAB_HOME/hosts" \
      --servers-file="$run/dns-upstream" --pid-file="$run/dnsmasq.pid" --log-facility="$run/dnsmasq.log" 8>&- 9>&-
  mirror_up; unlock
}
localapt() {
  local suite; suite=$(sed -n 's/^VERSION_CODENAME=//p' "$mnt/$1/usr/lib/os-release")
  [ -s "$cache/apt-$suite/Packages" ] || image "web-$suite" >/dev/null
  rm -f "$mnt/$1"/etc/apt/sources.list.d/*; rm -rf "$mnt/$1"/var/lib/apt/lists/*
  echo "deb [trusted=yes] http://mirror.$LAB_DOMAIN/apt-$suite ./" >"$mnt/$1/etc/apt/sources.list"
}
mirror_up() {  # fixtures and packages over HTTP and HTTPS, on the gateway, for machines only
  local p tls=$LAB_HOME/tls; p=$(readf "$run/mirror.pid"); alive "$p" && return 0
  mkdir -p "$tls" "$LAB_HOME/hosts"
  if [ ! -s "$tls/mirror.pem" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$tls/ca.key" -out "$tls/ca.crt" -days 3650 -subj "/CN=Lab CA" 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$tls/mirror.key" -out "$tls/mirror.csr" -subj "/CN=mirror.$LAB_DOMAIN" 2>/dev/null
    openssl x509 -req -in "$tls/mirror.csr" -CA "$tls/ca.crt" -CAkey "$tls/ca.key" -CAcreateserial -days 3650 -out "$tls/mirror.crt" \
      -extfile <(printf 'subjectAltName=DNS:mirror.%s,IP:%s.1\nextendedKeyUsage=serverAuth\n' "$LAB_DOMAIN" "$LAB_SUBNET") 2>/dev/null
    cat "$tls/mirror.crt" "$tls/mirror.key" >"$tls/mirror.pem"
  fi
  echo "$LAB_SUBNET.1 mirror.$LAB_DOMAIN mirror" >"$LAB_HOME/hosts/mirror"; dns_reload
  setsid -f nsenter --net="/run/netns/$LAB_ID" -- python3 "$here/mirror.py" "$LAB_SUBNET.1" "$cache" "$tls/mirror.pem" "$run/mirror.pid" \
    </dev/null >"$run/mirror.log" 2>&1 8>&- 9>&-
  local i; for ((i = 0; i < 200; i++)); do alive "$(readf "$run/mirror.pid")" && return 0; sleep 0.02; done
  cat "$run/mirror.log" >&2; die "the mirror does not start"
}
dns_reload() { local p; p=$(readf "$run/dnsmasq.pid"); if alive "$p"; then kill -HUP "$p"; fi; }
uplink() {
  case ${1:-} in
  on) net_up; lock
    if ! ip link show "$LAB_ID-up" >/dev/null 2>&1; then
      ip link add "$LAB_ID-up" type veth peer name up0 netns "$LAB_ID"
      ip addr add "$LAB_UPNET.1/30" dev "$LAB_ID-up"; ip link set "$LAB_ID-up" up
      ip -n "$LAB_ID" addr add "$LAB_UPNET.2/30" dev up0; ip -n "$LAB_ID" link set up0 up
      ip -n "$LAB_ID" route replace default via "$LAB_UPNET.1"
      in_ns "$LAB_ID" nft -f - <<<"table ip $LAB_ID { chain post { type nat hook postrouting priority 100; oifname up0 masquerade; };
        chain guard { type filter hook forward priority 0; oifname up0 ip saddr != ${2:-$LAB_SUBNET.0/24} drop; }; }"
      readf /proc/sys/net/ipv4/ip_forward >"$run/ip_forward"; sysctl -qw net.ipv4.ip_forward=1
      nft -f - <<<"table ip $LAB_ID { chain post { type nat hook postrouting priority 100; ip saddr $LAB_UPNET.0/30 oifname != \"$LAB_ID-up\" masquerade; }; }"
    fi
    awk '$1=="nameserver"{print "server=" $2}' /etc/resolv.conf >"$run/dns-upstream"; dns_reload; unlock;;
  off) lock; ip link del "$LAB_ID-up" 2>/dev/null || true
    nft delete table ip "$LAB_ID" 2>/dev/null || true
    if [ -e "/run/netns/$LAB_ID" ]; then in_ns "$LAB_ID" nft delete table ip "$LAB_ID" 2>/dev/null || true; fi
    if [ -s "$run/ip_forward" ]; then sysctl -qw net.ipv4.ip_forward="$(cat "$run/ip_forward")"; rm -f "$run/ip_forward"; fi
    if [ -e "$run/dns-upstream" ]; then : >"$run/dns-upstream"; fi; dns_reload; unlock;;
  *) die "uplink on [IP]|off";; esac
}
net_down() {
  local d
  for d in "$run"/*/; do if [ -d "$d" ]; then poweroff_now "$(basename "$d")" & fi; done; wait
  uplink off
  local p f; for f in dnsmasq mirror; do p=$(readf "$run/$f.pid"); if alive "$p"; then kill "$p"; fi; rm -f "$run/$f.pid"; done
  ip netns del "$LAB_ID" 2>/dev/null || true
  [ "$(stat -f -c %T /run/systemd/nspawn 2>/dev/null)" = tmpfs ] && umount /run/systemd/nspawn 2>/dev/null || true
}
port_up() {  # NAME IP: the machine's netns with its cable into the switch, configured before boot
  local n=$1 ip=$2 ns=$LAB_ID-$1
  port_down "$n"; ip netns add "$ns"; ip -n "$ns" link set lo up
  ip -n "$LAB_ID" link add "v-$n" type veth peer name eth0 address "$(printf '02:6c:61:62:01:%02x' "${ip##*.}")" netns "$ns"   # same MAC after every boot
  ip -n "$LAB_ID" link set "v-$n" master br0 up
  ip -n "$ns" addr add "$ip/24" dev eth0; ip -n "$ns" link set eth0 up
  ip -n "$ns" route add default via "$LAB_SUBNET.1"
}
port_down() { ip -n "$LAB_ID" link del "v-$1" 2>/dev/null || true; ip netns del "$LAB_ID-$1" 2>/dev/null || true; }

# ------------------------------------------------------------------ machines
leader() {  # PID of the machine's PID 1: launcher -> nspawn -> leader
  local p c; p=$(readf "$run/$1/launcher"); alive "$p" || return 1
  for c in $(readf "/proc/$p/task/$p/children"); do
    [ "$(readf "/proc/$c/comm")" = systemd-nspawn ] && { set -- $(readf "/proc/$c/task/$c/children"); [ -n "${1:-}" ] && { echo "$1"; return 0; }; }
  done; return 1
}
enter() { local l=$1; shift; nsenter -t "$l" -m -u -i -n -p -C -- env -i PATH="$PATH" HOME=/root USER=root LANG=C.UTF-8 TERM="${TERM:-dumb}" "$@"; }
cgroup_dirs() {  # this machine's directory in every cgroup hierarchy, below the caller's own cgroup
  local n=$1 id ctl path m; while IFS=: read -r id ctl path; do
    case $ctl in '') m=/sys/fs/cgroup/unified; [ -d $m ] || m=/sys/fs/cgroup;; name=systemd) m=/sys/fs/cgroup/systemd;; *) m=/sys/fs/cgroup/$ctl;; esac
    if [ -d "$m" ]; then echo "$m${path%/}/$LAB_ID/$n"; fi
  done </proc/self/cgroup; }
cgroup_make() {
  # Those of an earlier machine of this name may not have become empty in time; with children below it none takes a device list.
  cgroup_dirs "$1" >"$run/$1/cgroups"; cgroup_remove "$1"
  local d; while read -r d; do
    mkdir -p "$d"
    case $d in
    /sys/fs/cgroup/cpuset/*) local p; for p in "$(dirname "$d")" "$d"; do cat /sys/fs/cgroup/cpuset/cpuset.cpus >"$p/cpuset.cpus"; cat /sys/fs/cgroup/cpuset/cpuset.mems >"$p/cpuset.mems"; done;;
    /sys/fs/cgroup/memory/*) [ -z "$LAB_MEM" ] || echo "$LAB_MEM" >"$d/memory.limit_in_bytes";;
    /sys/fs/cgroup/devices/*) # root in a machine is root: keep it off the host's disks and loops, let it have pseudo devices
      echo a >"$d/devices.deny"
      local a; for a in 'c *:* m' 'b *:* m' 'c 1:3 rwm' 'c 1:5 rwm' 'c 1:7 rwm' 'c 1:8 rwm' 'c 1:9 rwm' 'c 1:11 rwm' 'c 5:0 rwm' 'c 5:1 rwm' 'c 5:2 rwm' \
        'c 136:* rwm' 'c 10:200 rwm' 'c 10:229 rwm' 'c 10:234 rwm'; do echo "$a" >"$d/devices.allow"; done;;
    esac
  done <"$run/$1/cgroups"; }
cgroup_remove() {
  local d i; for d in $(readf "$run/$1/cgroups"); do
    for i in {1..60}; do
      [ -d "$d" ] || break; find "$d" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.05; done
    rmdir "$(dirname "$d")" 2>/dev/null || true
  done; }
kill_all() {  # every process of the machine at once; nspawn's death alone would leave its machine running
  local d p i; p=$(readf "$run/$1/launcher")
  for d in $(readf "$run/$1/cgroups"); do [ -e "$d/cgroup.kill" ] && echo 1 >"$d/cgroup.kill"; done
  for ((i = 0; i < 250; i++)); do
    grep -qs 'populated 1' $(sed -n 's,$,/cgroup.events,p' "$run/$1/cgroups" 2>/dev/null | grep unified) /dev/null || alive "$p" || return 0
    sleep 0.02; done
  die "$1: its processes do not die"
}
settle() { local l; kill_all "$1"; cgroup_remove "$1"; port_down "$1"
  for l in $(readf "$run/$1/disks"); do losetup -d "$l" 2>/dev/null || true; done
  umount -q "$mnt/$1" 2>/dev/null || umount -l "$mnt/$1" 2>/dev/null || true
  rmdir "$mnt/$1" 2>/dev/null || true; rm -rf "${run:?}/$1" "$LAB_HOME/hosts/$1"; dns_reload; }
shim() {  # PID 1 of a machine for its first milliseconds: undo what nspawn made read-only, then become systemd
  cat >"$run/lab-init.new" <<'S'
#!/bin/sh
for c in memory cpu cpuacct cpu,cpuacct pids blkio devices cpuset freezer; do
  [ -d "/sys/fs/cgroup/$c" ] && mount -o remount,rw,bind "/sys/fs/cgroup/$c"
done
mount --bind /proc/sys/net /proc/sys/net && mount -o remount,rw,bind /proc/sys/net
mkdir -p /dev/net; [ -e /dev/net/tun ] || mknod -m 666 /dev/net/tun c 10 200
mknod -m 666 /dev/fuse c 10 229; mknod -m 600 /dev/btrfs-control c 10 234
exec /lib/systemd/systemd "$@"
S
  chmod 755 "$run/lab-init.new"; mv "$run/lab-init.new" "$run/lab-init"; }
up() {
  local n=$1 ip=$2 img=${3:-base-$LAB_SUITE} t l i st src disk=$pool/disks/$1 root=$mnt/$1 b; t=$(now); valid "$n"
  if l=$(leader "$n"); then say "$n is up already (leader $l)"; return 0; fi
  [[ $ip == "$LAB_SUBNET".* ]] || die "$ip is not in $LAB_SUBNET.0/24"
  src=$(image "$img"); net_up
  [ ! -d "$run/$n" ] || settle "$n"                     # left over from something that died
  mkdir -p "$root" "$run/$n"; echo "$ip" >"$run/$n/ip"
  if [ -s "$disk" ]; then mount -o "$mopt" "$disk" "$root"
  else
    cp --reflink=always "$src" "$disk.new"; mount -o "$mopt" "$disk.new" "$root"
    [ -z "$LAB_OVERLAY" ] || cp -a --no-preserve=ownership "$LAB_OVERLAY/." "$root/"
    trust "$root"; mv "$disk.new" "$disk"
  fi
  echo "$n" >"$root/etc/hostname"
  [ -e "$root/etc/lab-keep" ] || { printf '127.0.0.1 localhost\n127.0.1.1 %s.%s %s\n' "$n" "$LAB_DOMAIN" "$n" >"$root/etc/hosts"
    rm -f "$root/etc/resolv.conf"; printf 'nameserver %s.1\nsearch %s\n' "$LAB_SUBNET" "$LAB_DOMAIN" >"$root/etc/resolv.conf"; }
  compgen -G "$root/etc/ssh/ssh_host_*_key" >/dev/null || ssh-keygen -q -N '' -C "root@$n" -t ed25519 -f "$root/etc/ssh/ssh_host_ed25519_key"
  sync -f "$root"                                       # what the lab wrote was there before; a power cut takes only what the machine wrote
  lock; port_up "$n" "$ip"; echo "$ip $n.$LAB_DOMAIN $n" >"$LAB_HOME/hosts/$n"; dns_reload; shim; cgroup_make "$n"; unlock
  # exit 133 = the machine rebooted itself
  setsid -f bash -c 'echo $$ >"$1/launcher"; for d in $(cat "$1/cgroups"); do echo $$ >"$d/cgroup.procs"; done; shift
    while :; do "$@"; [ $? = 133 ] || exit; done' lab-$n "$run/$n" \
    systemd-nspawn --quiet --settings=no --register=no --keep-unit --machine="$n" --directory="$root" --link-journal=no \
      --resolv-conf=off --timezone=off --console=pipe --kill-signal=SIGRTMIN+3 --network-namespace-path="/run/netns/$LAB_ID-$n" \
      --capability=CAP_NET_ADMIN,CAP_BPF,CAP_PERFMON --system-call-filter="bpf @keyring landlock_create_ruleset landlock_add_rule landlock_restrict_self" \
      --bind-ro="$run/lab-init:/run/lab-init" ${LAB_NSPAWN_ARGS:-} /run/lab-init </dev/null >"$run/$n/console" 2>&1 8>&- 9>&-
  b=$(( $(date +%s) + LAB_TIMEOUT ))
  while :; do
    if l=$(leader "$n") && [ "$(readf "/proc/$l/comm")" = systemd ]; then
      st=$(enter "$l" timeout "$LAB_TIMEOUT" systemctl is-system-running --wait 2>/dev/null) || true
      case $st in running|degraded) break;; esac
    fi
    if [ "$(date +%s)" -ge "$b" ] || { [ -s "$run/$n/launcher" ] && ! alive "$(cat "$run/$n/launcher")"; }; then
      tail -n 30 "$run/$n/console" >&2; kill_all "$n"; settle "$n"; die "$n did not boot (state '${st:-none}')"; fi
    sleep 0.03
  done
  say "$n $ip $st in $(since "$t")"
}
trust() {  # the lab's certificate authority, as update-ca-certificates would (which takes 1 s)
  cmp -s "$LAB_HOME/tls/ca.crt" "$1/usr/local/share/ca-certificates/lab.crt" && return
  cp "$LAB_HOME/tls/ca.crt" "$1/usr/local/share/ca-certificates/lab.crt"; cat "$LAB_HOME/tls/ca.crt" >>"$1/etc/ssl/certs/ca-certificates.crt"
  ln -sf /usr/local/share/ca-certificates/lab.crt "$1/etc/ssl/certs/lab.pem"
  ln -sf lab.pem "$1/etc/ssl/certs/$(openssl x509 -noout -hash -in "$LAB_HOME/tls/ca.crt").0"
}
must_lead() { leader "$1" || die "$1 is not up"; }
poweroff_now() {
  local n=$1 l p t i; t=$(now); p=$(readf "$run/$n/launcher")
  if l=$(leader "$n"); then
    kill -RTMIN+4 "$l" || true
    for ((i = 0; i < LAB_TIMEOUT * 20; i++)); do alive "$p" || break; sleep 0.05; done
    if alive "$p"; then say "$n: no poweroff after ${LAB_TIMEOUT}s, killing"; kill_all "$n"; fi
  else kill_all "$n"; fi
  if [ -d "$run/$n" ]; then cp -f "$run/$n/console" "$run/../$n.console" 2>/dev/null || true; settle "$n"; say "$n off in $(since "$t")"; fi
}
power_cut() {  # cable out, freeze, keep what the disk has received by now, kill, throw the rest away
  local n=$1 d disk=$pool/disks/$1 t; t=$(now); must_lead "$n" >/dev/null
  ip -n "$LAB_ID" link set "v-$n" down
  for d in $(readf "$run/$n/cgroups"); do [ -e "$d/cgroup.freeze" ] && echo 1 >"$d/cgroup.freeze"; done
  cp --reflink=always "$disk" "$disk.cut"
  kill_all "$n"; settle "$n"; mv "$disk.cut" "$disk"; say "$n cut in $(since "$t")"
}
commit() {
  local n=$1 i=$2 m=$mnt/.commit disk=$pool/disks/$1; valid_image "$i"; poweroff_now "$n"; [ -s "$disk" ] || die "$n has no disk"
  lock; pool_up; mkdir -p "$m"; cp --reflink=always "$disk" "$pool/images/$i.tmp"; mount -o "$mopt" "$pool/images/$i.tmp" "$m"; blank "$m"
  unmount "$m"; mv "$pool/images/$i.tmp" "$pool/images/$i.$LAB_FS"; unlock; echo "$pool/images/$i.$LAB_FS"
}

add_disk() {
  local n=$1 size=$2 dev=${3:-vdb} l p d f=$pool/disks/$1.${3:-vdb}; l=$(must_lead "$n")
  [ -s "$f" ] || truncate -s "$size" "$f"
  p=$(losetup -f --show "$f"); echo "$p" >>"$run/$n/disks"
  for d in $(readf "$run/$n/cgroups"); do case $d in /sys/fs/cgroup/devices/*)   # parents first: a v1 device rule does not reach existing children
    find "$d" -type d | sort | while read -r d; do echo "b 7:${p#/dev/loop} rwm" >"$d/devices.allow"; done;; esac; done
  enter "$l" sh -c "rm -f /dev/$dev; mknod -m 660 /dev/$dev b 7 ${p#/dev/loop}"
}
pair() {  # every frame between two machines, both ways; the bridge family sees what the switch forwards
  local a b; a=$(readf "$run/$2/ip") b=$(readf "$run/$3/ip"); [ -n "$a" ] && [ -n "$b" ] || die "$1: both machines must be up"
  in_ns "$LAB_ID" nft add table bridge lab; in_ns "$LAB_ID" nft 'add chain bridge lab ports { type filter hook forward priority 0; }'
  in_ns "$LAB_ID" nft 'add set bridge lab part { type ipv4_addr . ipv4_addr; }'
  in_ns "$LAB_ID" nft list chain bridge lab ports | grep -q @part || in_ns "$LAB_ID" nft add rule bridge lab ports ip saddr . ip daddr @part drop
  in_ns "$LAB_ID" nft "$1" element bridge lab part "{ $a . $b, $b . $a }"
}

cmd=${1:-}; shift || true
case $cmd in
deps)   exec "$here/deps.sh";;
image)  image "$@";;
net)    case ${1:-} in up) net_up;; down) net_down;; *) die "net up|down";; esac;;
mirror) net_up; echo "https://mirror.$LAB_DOMAIN";;
apt-mirror) host_mirror;;
uplink) uplink "$@";;
in)     [ $# -gt 0 ] || die "in CMD..."; net_up; exec nsenter --net="/run/netns/$LAB_ID" -- "$@";;
up)     [ $# -ge 2 ] || die "up NAME IP [IMAGE]"; up "$@";;
exec)   [ $# -ge 2 ] || die "exec NAME CMD..."; l=$(must_lead "$1"); shift
        enter "$l" systemd-run --quiet --wait --pipe --collect --service-type=exec -p WorkingDirectory=/root -E HOME=/root -E DEBIAN_FRONTEND=noninteractive -E LANG=C.UTF-8 -- "$@";;
shell)  l=$(must_lead "$1"); shift; [ $# -gt 0 ] || set -- bash -l; enter "$l" "$@";;
push)   [ $# -eq 3 ] || die "push NAME SRC DST"; must_lead "$1" >/dev/null; to=$mnt/$1/$3; mkdir -p "$(dirname "$to")"
        cp -aL --remove-destination --no-preserve=ownership "$2" "$to"; if [ -d "$to" ]; then sync -f "$to"; else sync "$to" "$(dirname "$to")"; fi;;
down)   valid "${1:-}"; poweroff_now "$1";;
kill)   valid "${1:-}"; power_cut "$1";;
rm)     valid "${1:-}"; rm_machine "$1";;
localapt) must_lead "${1:-}" >/dev/null; localapt "$1";;
layer)  [ $# -ge 4 ] && [ $(($# % 2)) = 0 ] || die "layer IMAGE NEW SRC DST ..."; layer "$@";;
commit) [ $# -eq 2 ] || die "commit NAME IMAGE"; commit "$@";;
cut)    must_lead "$1" >/dev/null; ip -n "$LAB_ID" link set "v-$1" down;;
heal)   must_lead "$1" >/dev/null; ip -n "$LAB_ID" link set "v-$1" up;;
part)   pair add "$1" "$2";;
join)   pair delete "$1" "$2";;
disk)   [ $# -ge 2 ] || die "disk NAME SIZE [DEV]"; add_disk "$@";;
log)    readf "$run/$1/console"; readf "$LAB_HOME/$1.console";;
status) for d in "$run"/*/; do [ -d "$d" ] || continue; n=$(basename "$d"); l=$(leader "$n") || l=-
          echo "$n $(readf "$d/ip") leader=$l $( [ "$l" = - ] || enter "$l" systemctl is-system-running 2>/dev/null || true)"; done;;
clean)  net_down; unmount "$pool"; unmount "$mnt"; rm -rf "$LAB_HOME/pool.img" "$run" "$LAB_HOME/hosts" "$LAB_HOME/pool" "$mnt" "$LAB_HOME"/*.console "$LAB_HOME"/*.log;;
*)      sed -n '2,/^set /{/^set /d;p}' "$0" | sed 's/^# \{0,1\}//'; [ -z "$cmd" ] || exit 2;;
esac

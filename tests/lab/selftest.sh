#!/bin/bash
# selftest.sh - what the lab promises, checked, in a lab of its own that shares only the cache. Cleans up after itself.
set -uo pipefail; cd "$(dirname "$0")" || exit 1
project=$(cd ../.. && pwd)
export LAB_HOME=${LAB_HOME:-$project/target/lab-selftest} LAB_CACHE=${LAB_CACHE:-$project/target/lab/cache}
L=${LAB_SH:-./lab.sh} N=10.77.0 pass=0 fail=0 T=$(mktemp -d); trap '$L clean 2>/dev/null; rm -rf "$T"' EXIT
ok() { local what=$1; shift
  if "$@" >"$T/out" 2>&1; then pass=$((pass+1)); echo "ok   $what"; else fail=$((fail+1)); echo "FAIL $what"; sed 's/^/     /' "$T/out" | tail -n 5; fi; }
no() { ! "$@"; }
in1() { $L exec s1 "$@"; }; sh1() { $L exec s1 sh -c "$1"; }; unit() { in1 systemd-run -q --wait --pipe --collect "$@"; }
until_() { local i; for ((i = 0; i < $1 * 10; i++)); do "${@:2}" && return; sleep 0.1; done; return 1; }   # SECONDS CMD...

echo "# machines"
mkdir -p "$T/ov/etc/systemd/system/multi-user.target.wants"
printf '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c "echo ran >>/root/first"\n' >"$T/ov/etc/systemd/system/first.service"
ln -s ../first.service "$T/ov/etc/systemd/system/multi-user.target.wants/first.service"
ok 'up with a first-boot overlay' env LAB_OVERLAY="$T/ov" $L up s1 $N.11
ok 'a machine of the other suite' $L up s2 $N.12 base-bookworm
ok '  they are what they say'     sh -c "$L exec s1 cat /etc/os-release | grep -q trixie && $L exec s2 cat /etc/os-release | grep -q bookworm"
ok 'up is idempotent'             $L up s1 $N.11
ok 'first-boot unit ran'          sh1 'grep -q ran /root/first'
ok 'no failed unit'               sh1 '[ "$(systemctl is-system-running)" = running ]'
ok 'names resolve, packets flow'  in1 ping -c1 -W2 s2.lab.test
ok 'exit code passes through'     sh1 'exit 0'
ok '  a failing one too'          no sh1 'exit 9'
ok 'no way out of the lab'        no in1 ping -c1 -W1 10.76.0.1
ok 'a bad name is refused'        no $L up this-is-too-long $N.13
echo text >"$T/file"
ok 'push'                         sh -c "$L push s1 '$T/file' /root/new/file && $L exec s1 grep -q text /root/new/file"

echo "# systemd enforces"
ok 'MemoryMax kills'              no unit -p MemoryMax=50M python3 -c 'x=bytearray(200<<20)'
ok 'TasksMax bites'               no unit -p TasksMax=4 bash -c 'for i in 1 2 3 4 5 6; do sleep 1 & done 2>&1 | grep -q . && exit 1; wait'
ok 'CPUQuota throttles'           unit -p CPUQuota=20% python3 -c 'import time
t=time.time()
while time.time()-t<1: pass
raise SystemExit(time.process_time()>0.5)'
ok 'IPAddressDeny blocks'         no unit -p IPAddressDeny=any python3 -c 'import socket; socket.socket(socket.AF_INET,socket.SOCK_DGRAM).sendto(b"x",("127.0.0.1",9))'
ok 'DynamicUser, ProtectSystem'   unit -p DynamicUser=yes -p ProtectSystem=strict -p StateDirectory=x sh -c 'touch /var/lib/x/y && ! touch /etc/z 2>/dev/null'
ok 'LoadCredentialEncrypted'      sh1 'echo -n s | systemd-creds encrypt --name=t - /root/t.cred && systemd-run -q --wait --pipe -p LoadCredentialEncrypted=t:/root/t.cred sh -c "grep -q s \$CREDENTIALS_DIRECTORY/t"'
ok 'SystemCallFilter'             no unit -p 'SystemCallFilter=~mkdir mkdirat' mkdir /tmp/zz
ok 'nftables'                     sh1 'nft add table inet t && nft delete table inet t'
ok 'host disks are out of reach'  no sh1 'mknod /dev/hd b $(cat /sys/class/block/vda/dev | tr : " ") && head -c1 /dev/hd'

echo "# faults"
ok 'a second disk'                $L disk s1 512M vdb
ok '  mkfs, snapshot, send'       sh1 'mkfs.btrfs -q -f /dev/vdb >/dev/null && mkdir -p /srv/d && mount /dev/vdb /srv/d && btrfs -q su create /srv/d/a && echo 1 >/srv/d/a/f && btrfs -q su snap -r /srv/d/a /srv/d/s && [ "$(btrfs -q send /srv/d/s 2>/dev/null | wc -c)" -gt 100 ]'
ok '  ENOSPC'                     sh1 'dd if=/dev/zero of=/srv/d/full bs=1M 2>&1 | grep -q "No space left"'
ok 'part'                         $L part s1 s2; ok '  nothing passes' no in1 ping -c1 -W1 s2; ok '  the rest does' in1 ping -c1 -W1 $N.1
ok 'join'                         $L join s1 s2; ok '  passes again' in1 ping -c1 -W2 s2
ok 'cut'                          $L cut s2; ok '  is off the net' no in1 ping -c1 -W1 s2; ok 'heal' $L heal s2; ok '  is back' in1 ping -c2 -W2 s2
boot=$(in1 cat /proc/sys/kernel/random/boot_id); in1 systemctl reboot >/dev/null 2>&1
rebooted() { local now; now=$(in1 cat /proc/sys/kernel/random/boot_id 2>/dev/null) && [ -n "$now" ] && [ "$now" != "$boot" ]; }
ok 'reboot from inside'           until_ 20 rebooted
sh1 'python3 -c "
import os
f=open(\"/root/kept\",\"w\"); f.write(\"k\"*5000); f.flush(); os.fsync(f.fileno())
d=os.open(\"/root\",os.O_RDONLY); os.fsync(d)
open(\"/root/gone\",\"w\").write(\"g\"*5000)"'
ok 'power cut'                    $L kill s1; ok '  boots again' $L up s1 $N.11
ok '  fsynced data survived'      sh1 '[ $(stat -c %s /root/kept) = 5000 ]'
ok '  unsynced data did not'      no sh1 '[ $(stat -c %s /root/gone) = 5000 ]'
kill -9 "$(cat "$LAB_HOME/run/s2/launcher")"
ok 'up after a lost supervisor'   $L up s2 $N.12

echo "# images"
sh1 'head -c 300M /dev/urandom >/root/big; sha256sum /root/big >/root/sum'    # dirty pages that the clone must not miss
ok 'commit an image'              $L commit s1 layer
ok '  boot from it'               $L up s3 $N.13 layer
ok '  it has all the data'        $L exec s3 sha256sum -c /root/sum
ok 'no layer of what is not there' no $L layer layer layer-00000000 /no/such /root/self
ok 'a layer on it'                $L layer layer layer-00000001 /etc/hostname /usr/local/x/name
ok '  made once'                  $L layer layer layer-00000001 /no/such /root/self
ok '  the next takes its place'   sh -c "$L layer layer layer-00000002 $project/README.md /root/self && ! ls $LAB_HOME/pool/images | grep 0001"
ok '  boot from it'               sh -c "$L up s4 $N.14 layer-00000002 && $L exec s4 sha256sum -c /root/sum && $L exec s4 test -s /root/self && $L rm s4"
ok '  it is another machine'      no cmp <($L exec s2 cat /etc/machine-id) <($L exec s3 cat /etc/machine-id)
( for i in 1 2 3; do $L up p$i $N.3$i base-trixie & done; for i in 4 5; do $L up p$i $N.3$i web-bookworm & done; wait ) >"$T/many" 2>&1
ok 'five at once, one image anew' sh -c "[ \$($L status | grep -c '^p.*running') = 5 ] || { cat '$T/many'; false; }"
ok '  the web image has it all'   $L exec p4 sh -c 'systemctl is-active nginx mariadb postgresql php8.2-fpm'
ok '  nothing failed there'       $L exec p4 sh -c '[ -z "$(systemctl list-units --failed --plain --no-legend)" ]'
ok 'down'                         $L down s3; ok 'rm' $L rm s3
for i in 1 2 3 5; do $L rm p$i; done

echo "# downloads"
M=https://mirror.lab.test WP=wordpress.org/wordpress-6.8.7.tar.gz
curl1() { in1 curl -sS --max-time 20 "$@"; }; code() { [ "$(curl1 -o /dev/null -w '%{http_code}' "${@:2}")" = "$1" ]; }
sum=$(awk '$4=="6.8.7" {print $6}' "$LAB_CACHE/fixtures/versions")
$L up s1 $N.11 >/dev/null 2>&1
summed() { [ "$(in1 sha256sum "$1" | cut -d' ' -f1)" = "$sum" ]; }
curl1 -o /root/wp $M/$WP; ok 'https, trusted, whole'   summed /root/wp
ok 'http too'                     code 200 http://mirror.lab.test/$WP
for path in wordpress.org/wordpress-6.1.9.tar.gz releases.wikimedia.org/mediawiki/1.39/mediawiki-1.39.17.tar.gz \
  releases.wikimedia.org/mediawiki/1.43/mediawiki-1.43.9.tar.gz download.dokuwiki.org/src/dokuwiki/dokuwiki-2022-07-31a.tgz files/versions pypi/simple/radicale/; do
  ok "  $path"                    code 200 -I $M/$path; done
ok 'what is not there is a 404'   code 404 $M/wordpress.org/nothing.tar.gz
ok 'status'                       code 503 $M/status/503/$WP
ok 'truncate'                     no curl1 -o /root/part $M/truncate/100000/$WP
ok '  has what came'              sh1 '[ $(stat -c %s /root/part) = 100000 ]'
ok '  resumes'                    curl1 -C - -o /root/part $M/$WP; ok '  is whole then' summed /root/part
ok '  nothing after the end: 416' code 416 -H "Range: bytes=$(sh1 'stat -c %s /root/part')-" $M/$WP
ok '  a changed file: all again'  code 200 -H 'Range: bytes=10-' -H 'If-Range: "other"' $M/$WP
curl1 -o /root/bad $M/corrupt/$WP; ok 'corrupt' no summed /root/bad; ok '  same size' sh1 '[ $(stat -c %s /root/bad) = $(stat -c %s /root/wp) ]'
ok 'slow'                         no in1 curl -s --max-time 2 -o /dev/null $M/slow/1000/$WP
ok 'html'                         sh1 "curl -s $M/html/$WP | grep -q 'log in'"
ok 'endless'                      no in1 curl -s --max-filesize 5000000 --max-time 20 -o /dev/null $M/endless/
ok 'redirect'                     code 200 -L -I $M/redirect/$WP
ok 'redirect-file'                no curl1 -L -o /dev/null $M/redirect-file/; ok 'redirect-loop' no curl1 -L -o /dev/null $M/redirect-loop/
ok 'requests are on record'       grep -q "GET /truncate/100000/$WP - 200" "$LAB_HOME/run/requests.log"
for m in 's1 trixie base-trixie' 'p4 bookworm web-bookworm'; do set -- $m
  $L localapt "$1"
  ok "apt from the lab on $3"     $L exec "$1" sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx-light python3-venv unzip >/dev/null && systemctl is-active nginx'
  ok '  pip from the lab'         $L exec "$1" sh -c "python3 -m venv /root/v && /root/v/bin/pip install -q --index-url $M/pypi/simple/ radicale==3.9.0 && /root/v/bin/radicale --version"
done

ok 'clean'                        $L clean
ok 'nothing is left'              sh -c "! { find /sys/fs/cgroup -type d -path '*/lab*'; ip netns; cat /proc/mounts; losetup -a; ps -eo args | grep '[m]irror.py'; } | grep -F '$LAB_HOME/'"
echo "$pass passed, $fail failed"; [ "$fail" = 0 ]

#!/bin/sh
# Enrols a blank Debian server: installs the package `socle-agent` from the repository below and runs `socle agent join`.
#
#   s=$(curl -fsSL URL) && printf '%s\n' TOKEN | sh -c "$s"    what `socle controller server add` prints, for a shell of root
#   sh bootstrap.sh --token-file FILE                          first boot: FILE (0600) has the token, and is removed at the end
#
# The token is in no argument and no environment of any program, where `ps` would show it: `printf` is a part of the shell, and from there
# it goes through a pipe. It works once, for this server, for a few hours. This script may be run again after any interruption, and does
# nothing on a server that is enrolled. All of it is one function, called on the last line: half a download does nothing.
repository=''
keyring_sha256=''

main() {
  set -eu
  umask 022
  token_file=-
  while [ $# -gt 0 ]; do
    case $1 in
      --token-file) token_file=${2:?} ;;
      --repository) repository=${2:?} ;;
      --keyring-sha256) keyring_sha256=${2:?} ;;
      *) fail "unknown argument: $1" ;;
    esac
    shift 2
  done
  [ "$(id -u)" = 0 ] || fail "this needs root: run it in the shell that sudo -i opens"
  # shellcheck source=/dev/null
  . /etc/os-release
  case ${ID:-}-${VERSION_ID:-} in debian-12 | debian-13) ;; *) fail "this is ${PRETTY_NAME:-unknown}; socle runs on Debian 12 and 13" ;; esac
  if [ -z "$repository" ] || [ -z "$keyring_sha256" ]; then fail 'no repository: take the bootstrap.sh that scripts/release made'; fi

  if [ "$token_file" != - ] && [ ! -e "$token_file" ] && [ -e /var/lib/socle/identity.json ]; then
    echo 'this server is enrolled already'
    return
  fi
  trust_repository
  install_agent
  # Tells by itself that a server is enrolled already, and ends well then. On any failure the token stays where it was, for the next try.
  # In the copies that cloud-init keeps of user data, it makes the token unreadable.
  socle agent join --token-file "$token_file"
  [ "$token_file" = - ] || rm -f "$token_file"
}

fail() {
  echo "bootstrap: $1" >&2
  exit 1
}

# The key is the one that this script names: apt takes nothing from the repository that another key signed, and nothing that this key
# signed from anywhere else.
trust_repository() {
  keyring=/usr/share/keyrings/socle-archive-keyring.gpg
  if ! is_the_key "$keyring"; then
    # apt's own downloader: a blank Debian may have neither curl nor wget.
    /usr/lib/apt/apt-helper -o Acquire::Retries=5 download-file "$repository/socle-archive-keyring.gpg" "$keyring.new" >&2 ||
      fail "cannot download $repository/socle-archive-keyring.gpg"
    is_the_key "$keyring.new" || fail "$repository/socle-archive-keyring.gpg is not the key with SHA-256 $keyring_sha256"
    chmod 0644 "$keyring.new"
    mv "$keyring.new" "$keyring"
  fi
  sources=/etc/apt/sources.list.d/socle.sources
  printf 'Types: deb\nURIs: %s\nSuites: stable\nComponents: main\nSigned-By: %s\n' "$repository" "$keyring" >"$sources.new"
  mv "$sources.new" "$sources"
}

is_the_key() {
  echo "$keyring_sha256  $1" | sha256sum --check --status 2>/dev/null
}

# Other apt runs of a first boot are waited for. To do the same again is what heals an interrupted one, and a network that is not up yet.
install_agent() {
  export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l
  for try in 1 2 3 4 5 6 7 8 9 10 11 12; do
    if apt install socle-agent; then return; fi
    echo "bootstrap: that was try $try of 12; again in 10 s" >&2
    sleep 10
    dpkg --force-confold --configure --pending </dev/null >&2 || true
  done
  fail 'cannot install socle-agent: the messages of apt above say why'
}

apt() {
  set -- -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
  # Of lists that a power cut left empty, apt believes that they are what was downloaded.
  find /var/lib/apt/lists -maxdepth 1 -type f -name '*_Packages*' -empty -delete
  # Standard input is where the token waits.
  apt-get -q update </dev/null >&2 && apt-get "$@" </dev/null >&2
}

main "$@"

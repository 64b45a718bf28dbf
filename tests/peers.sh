#!/bin/sh
# Puts Exim, Sendmail and OpenSMTPD beside the installed Postfix, whose Debian packages they conflict with: unpacked into folders of
# their own, which the tests find by MSGTRK_TEST_PEERS. Only the libraries that they need are installed. Nothing is started.
#   tests/peers.sh DIR && MSGTRK_TEST_PEERS=DIR MSGTRK_TEST_EXIM=DIR/exim/usr/sbin/exim4 cargo test
set -eu
[ $# = 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
mkdir -p "$1"
cd "$1"
[ -e opensmtpd/.done ] || apt-get update -qq >/dev/null
unpack() { # NAME PACKAGE...
  name=$1; shift
  [ -e "$name/.done" ] && return
  rm -rf "$name" "$name.debs"; mkdir "$name" "$name.debs"
  (cd "$name.debs" && apt-get download -qq "$@" >/dev/null)
  libraries=
  for deb in "$name.debs"/*.deb; do
    dpkg -x "$deb" "$name"
    # The first of alternatives, without versions: `liba (>= 1) | libb, libc` gives liba and libc.
    libraries="$libraries $(dpkg-deb -f "$deb" Depends Pre-Depends | sed 's/^[A-Za-z-]*: //; s/([^)]*)//g; s/|[^,]*//g' | tr ',' '\n' | tr -d ' ' | grep '^lib\|^zlib' | tr '\n' ' ')"
  done
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $libraries >/dev/null
  rm -rf "$name.debs"
  touch "$name/.done"
}
unpack exim exim4-base exim4-daemon-light
unpack sendmail sendmail-base sendmail-bin sendmail-cf m4
unpack opensmtpd opensmtpd

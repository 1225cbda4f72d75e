#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
# exchange.sh fill|change|describe PLACE: what a file system has that goes from user space to the
# kernel and back. PLACE is a directory, or `IMAGE:`; what `describe` prints is the same on both.
set -eu
job=${1:?} place=${2:?}
scratch=$(mktemp -d)
# On a terminal the tools show how far they are, which is of interest only when they fail.
exec 3>&2 2>"$scratch/errors"
trap '[ $? -eq 0 ] || cat "$scratch/errors" >&3; rm -rf "$scratch"' EXIT
umask 022

# vectors FILE FROM ROWS: vectors of 16 bytes, the same in every run.
vectors() {
  header="{'descr': '|u1', 'fortran_order': False, 'shape': ($3, 16), }"
  { printf '\223NUMPY\001\000\166\000'; printf '%-117s\n' "$header"; } >"$1"
  awk -v from="$2" -v rows="$3" 'BEGIN {
    x = from * 7919 + 1
    for (i = 0; i < rows * 16; i++) { x = (x * 16807) % 2147483647; printf "%c", 32 + x % 90 }
  }' >>"$1"
}

# texts DIRECTORY FROM TO: files of many sizes.
texts() {
  mkdir -p "$1"
  awk -v directory="$1" -v from="$2" -v to="$3" 'BEGIN {
    split("water river stone wind tree house letter number search vector file light", words, " ")
    x = from + 17
    for (i = from; i < to; i++) {
      file = directory "/text-" i ".txt"
      most = i % 8 ? 400 : 3000
      for (w = 0; w < 5 + (i * i * 37) % most; w++) {
        x = (x * 16807) % 2147483647
        printf "%s ", words[1 + x % 12] >file
      }
      close(file)
    }
  }'
}

case $job in
fill)
  texts "$scratch/texts" 0 300
  vectors "$scratch/base.npy" 1 3000
  vexfs cp -q -r "$scratch/texts" "$place/"
  ln -s texts/text-1.txt "$scratch/short"
  vexfs cp -q -r "$scratch/short" "$place/"
  vexfs ln "$place/texts/text-7.txt" "$place/again"
  vexfs import --create "$place/" rows "$scratch/base.npy" >/dev/null
  vexfs embed "$place/texts" words --embedder lexical >/dev/null
  ;;
change)
  # By path on a mount: the kernel's own operations.
  texts "$scratch/new" 300 400
  mkdir "$place/new"
  cp "$scratch"/new/* "$place/new/"
  vexfs embed "$place/new" words --embedder lexical >/dev/null
  mv "$place/texts/text-3.txt" "$place/new/moved.txt"
  rm "$place"/texts/text-1?.txt
  echo 'a last line of water' >>"$place/texts/text-5.txt"
  dd if=/dev/zero of="$place/new/holes" bs=4096 seek=1000 count=3 2>/dev/null
  dd if="$scratch/new/text-301.txt" of="$place/new/holes" bs=1 seek=99999 conv=notrunc 2>/dev/null
  chmod 600 "$place/texts/text-20.txt"
  chown 1000:1000 "$place/texts/text-21.txt"
  ln "$place/again" "$place/new/third"
  # Until data is written, the blocks claimed for it are counted beside those that it replaces.
  sync
  ;;
describe)
  vectors "$scratch/queries.npy" 2 20
  {
    vexfs tree --json "$place/"
    vexfs cat "$place/texts/text-5.txt" "$place/short" "$place/again" | sha256sum
    for metric in '' --exact; do
      vexfs search "$place/" rows --npy "$scratch/queries.npy" -k 10 --ef 3000 $metric --json
    done
    vexfs search "$place/texts" words --text 'water river stone' -k 20 --exact --json
    vexfs search "$place/" words --like "$place/texts/text-100.txt" -k 20 --exact --json
    vexfs export "${place%:}" words "$scratch/words.npy" >/dev/null
    sha256sum <"$scratch/words.npy"
    if vexfs ls "$place/new" >/dev/null 2>&1; then
      vexfs cat "$place/new/holes" "$place/new/moved.txt" "$place/new/third" | sha256sum
    fi
  } >"$scratch/all"
  # The last digits of a distance depend on the processor's instructions.
  sed -e "s|$place/*|/|g" -e 's/\("distance":[0-9]*\.[0-9]\{0,4\}\)[0-9]*/\1/' -e 's/"\(seconds\|memory_bytes\|examined\)":[^,}]*/"\1":N/g' "$scratch/all"
  ;;
*)
  echo "exchange.sh: $job is neither fill, change nor describe" >&2
  exit 2
  ;;
esac

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
# on_mount.sh DIRECTORY: runs every command of vexfs on DIRECTORY, where an empty VexFS is mounted, and
# on an image file, and compares what they say and do. Prints a line `ok NAME` or `not ok NAME` for
# each comparison, and at the end `N passed, N failed`. The tools are found by PATH; busybox is enough
# for the rest. DIRECTORY is left empty.
#
# In the commands below `@` is where paths begin (DIRECTORY, or IMAGE:) and `%` is the file system as
# a whole.
set -u
mount=${1:?usage: on_mount.sh DIRECTORY, where an empty VexFS is mounted}
mount=${mount%/}
scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT
image=$scratch/image.vexfs
passed=0
failed=0
cd "$scratch" || exit 2
umask 022

ok() {
  passed=$((passed + 1))
  echo "ok $1"
}

not_ok() {
  failed=$((failed + 1))
  echo "not ok $1"
  shift
  for file; do
    [ -s "$file" ] && sed -e "s|^|  $file: |" "$file" | head -n 12
  done
}

# test_that NAME COMMAND...: the command succeeds.
test_that() {
  name=$1
  shift
  if "$@" >out 2>err; then ok "$name"; else not_ok "$name" out err; fi
}

# on PATHS VOLUME COMMAND...: the command, with @ and % replaced.
on() {
  paths=$1 volume=$2
  shift 2
  count=$#
  while [ $count -gt 0 ]; do
    word=$1
    shift
    case $word in
    @*) word=$paths${word#@} ;;
    %) word=$volume ;;
    esac
    set -- "$@" "$word"
    count=$((count - 1))
  done
  "$@"
}

on_mount() { on "$mount" "$mount" "$@"; }
on_image() { on "$image:" "$image" "$@"; }

# What may differ: where it is, times and how long it took, numbers of inodes, memory, how often the
# bytes of a file have changed, the work of a search, and whether anybody has read vectors, so that
# damaged ones are known.
alike() {
  sed -e "s|$image:||g" -e "s|$image|VOLUME|g" -e "s|$mount/|/|g" -e "s|$mount|VOLUME|g" \
    -e 's/[0-9][0-9]*-[0-9][0-9]-[0-9][0-9].[0-9][0-9]:[0-9][0-9]:[0-9.]*Z*/TIME/g' \
    -e 's/[0-9.][0-9.]* \(us\|ms\|s\)\([ ,;)]\|$\)/LONG\2/g' \
    -e 's/"\(ino\|content_version\|generation\|created\|memory_bytes\|seconds\|store_seconds\|examined\|damaged\)":[^,}]*/"\1":N/g' \
    -e 's/"\(uuid\|published\|writer_generation\)":[^,}]*/"\1":N/g' \
    -e 's/^Inode  *[0-9]*/Inode N/' -e 's/version [0-9]*/version N/'
}

# same NAME COMMAND...: the command succeeds on both, and says the same.
same() {
  name=$1
  shift
  on_mount "$@" </dev/null >mount.out 2>mount.err
  on_mount_code=$?
  on_image "$@" </dev/null >image.out 2>image.err
  on_image_code=$?
  alike <mount.out >mount.alike
  alike <image.out >image.alike
  if [ $on_mount_code -ne 0 ] || [ $on_image_code -ne 0 ] || [ -s mount.err ] || [ -s image.err ] ||
    ! cmp -s mount.alike image.alike; then
    diff image.alike mount.alike >difference
    not_ok "$name" mount.err image.err difference
  else
    ok "$name"
  fi
}

# same_failure NAME CODE OBJECT COMMAND...: the command fails on both with this code, and names what
# it is about.
same_failure() {
  name=$1 code=$2 object=$3
  shift 3
  on_mount "$@" </dev/null >mount.out 2>mount.err
  on_mount_code=$?
  on_image "$@" </dev/null >image.out 2>image.err
  on_image_code=$?
  if [ $on_mount_code -eq "$code" ] && [ $on_image_code -eq "$code" ] &&
    grep -q -F -e "$object" mount.err && grep -q -F -e "$object" image.err; then
    ok "$name"
  else
    echo "exit codes $on_mount_code and $on_image_code" >codes
    not_ok "$name" codes mount.err image.err
  fi
}

# refused NAME CODE WORDS COMMAND...: the command fails with this code and these words.
refused() {
  name=$1 code=$2 words=$3
  shift 3
  "$@" </dev/null >out 2>err
  if [ $? -eq "$code" ] && grep -q -F -e "$words" err; then ok "$name"; else not_ok "$name" out err; fi
}

# says NAME WORDS COMMAND...: the command succeeds and says these words.
says() {
  name=$1 words=$2
  shift 2
  if "$@" </dev/null >out 2>err && grep -q -F -e "$words" out; then
    ok "$name"
  else
    not_ok "$name" out err
  fi
}

# npy FILE ROWS: vectors of 8 unsigned bytes, the same in every run.
npy() {
  { printf '\223NUMPY\001\000\166\000'
    header="{'descr': '|u1', 'fortran_order': False, 'shape': ($2, 8), }"
    printf '%-117s\n' "$header"
    gzip -n -c "$(command -v vexfs)" 2>/dev/null || gzip -c "$(command -v vexfs)"
  } 2>/dev/null | head -c $((128 + $2 * 8)) >"$1"
}

# Everything is made twice, in the same order.
mkfs.vexfs -q "$image" 64M || exit 2
vexfs info "$mount" >out || exit 2
[ -z "$(vexfs ls "$mount")" ] || { echo "$mount: not empty" >&2; exit 2; }

mkdir -p tree/deep/er
printf 'The quick brown fox jumps over the lazy dog near the river.\n' >tree/fox.txt
printf 'Boil the water, add carrots, onions and salt, then simmer.\n' >tree/deep/soup.md
printf 'Provided as is, without warranty of any kind.\n' >tree/deep/er/law.txt
cp tree/fox.txt tree/copy.txt
ln -s fox.txt tree/link
: >tree/empty
mkfifo tree/pipe
dd if=/dev/zero of=tree/sparse bs=1 count=1 seek=5000000 2>/dev/null
gzip -c "$(command -v vexfs)" | head -c 3000000 >tree/big
chmod 640 tree/big
ln tree/big tree/deep/twin
npy base.npy 2000
npy few.npy 20
npy many.npy 40

same "mkdir" vexfs mkdir @/one -m 700
same "mkdir -p" vexfs mkdir -p -m 2775 @/a/b/c
same_failure "mkdir of what is there" 1 /one vexfs mkdir @/one
same_failure "mkdir below nothing" 1 /no/x vexfs mkdir @/no/x
same "cp of a file" vexfs cp tree/fox.txt @/fox
same "cp of a file into a directory" vexfs cp tree/fox.txt tree/big @/a/b
same "cp of a tree" vexfs cp -r tree @/
same "cp of a tree with its attributes" vexfs cp -r --preserve tree @/kept
same_failure "cp of a directory without -r" 1 "with -r" vexfs cp tree @/x
same_failure "cp of nothing" 1 missing vexfs cp missing @/x
for place in "$mount" "$image:"; do
  printf 'from standard input' | vexfs cp -q - "$place/input"
  printf 'from a pipe' >tree/pipe &
  vexfs cp -q tree/pipe "$place/piped"
  wait
done
same "cat" vexfs cat @/input @/piped @/tree/link @/tree/deep/er/law.txt
same_failure "cat of a directory" 1 /tree vexfs cat @/tree
same "ls" vexfs ls @/
same "ls -l" vexfs ls -l @/ @/tree @/a/b
same "ls -d" vexfs ls -l -d @/tree @/tree/link
same "ls --json" vexfs ls --json @/tree
same "ls of a link to a file" vexfs ls @/tree/link
same_failure "ls of nothing" 1 /no vexfs ls @/no
same "tree" vexfs tree @/
same "tree -L" vexfs tree -L 1 @/tree
same "tree --json" vexfs tree --json @/
same "stat" vexfs stat @/tree/fox.txt @/tree/link @/tree @/tree/pipe
same "stat --json" vexfs stat --json @/tree/fox.txt @/kept/big @/tree
same "stat -L" vexfs stat -L @/tree/link
same "hard links are kept" vexfs stat --json @/kept/big

same "ln" vexfs ln @/fox @/a/second
same "ln into a directory" vexfs ln @/fox @/a/b/c
same "ln -s" vexfs ln -s ../fox @/a/short
same_failure "ln of a directory" 1 "hard links to directories" vexfs ln @/a @/z
same "a file tells all its names" vexfs stat --json @/a/second
before=$(vexfs ls --json "$mount/fox" | sed 's/.*"ino":\([0-9]*\).*/\1/')
same "cp over a file that is there" vexfs cp tree/big @/fox
same "cp over it of a shorter one" vexfs cp tree/deep/soup.md @/fox
after=$(vexfs ls --json "$mount/fox" | sed 's/.*"ino":\([0-9]*\).*/\1/')
test_that "a file that is copied over keeps its inode" [ "$before" = "$after" ]
same "all its names have the new bytes" vexfs cat @/a/second @/a/b/c/fox @/a/short
same "mv" vexfs mv @/a/b/fox.txt @/moved
same "mv into a directory" vexfs mv @/moved @/input @/one
same "mv --exchange" vexfs mv --exchange @/one/input @/one/moved
same "what was exchanged" vexfs cat @/one/input
same_failure "mv -n" 1 /one/moved vexfs mv -n @/one/input @/one/moved
same_failure "mv below itself" 1 /a/b vexfs mv @/a @/a/b
same_failure "mv of nothing" 1 /no vexfs mv @/no @/x
same_failure "rm of a directory without -r" 1 "with -r" vexfs rm @/a
same_failure "rm -r of a directory's dot" 1 "cannot be removed" vexfs rm -r @/a/.
same_failure "rm -r of everything" 1 "root directory" vexfs rm -r @/
same_failure "rm of nothing" 1 /no vexfs rm @/no
same "rm -f of nothing" vexfs rm -f @/no
same "rm" vexfs rm @/a/second @/a/short
same "rm -r" vexfs rm -r @/a @/one
same "what is left" vexfs tree @/
refused "two file systems in one command" 2 "two file systems" vexfs mv "$image:/fox" "$mount/x"

on_mount vexfs cp -q -r @/kept out.mount && on_image vexfs cp -q -r @/kept out.image
rm out.mount/pipe out.image/pipe
test_that "cp out" diff -r out.mount out.image
rm tree/pipe
test_that "cp out gives what went in" diff -r tree out.mount
test_that "cp from the mount to an image" vexfs cp -r "$mount/kept/deep" "$image:/from-mount"
test_that "cp from an image to the mount" vexfs cp -r "$image:/kept/deep" "$mount/from-image"
vexfs cp -q -r "$mount/from-image" out.from-image
vexfs cp -q -r "$image:/from-mount" out.from-mount
test_that "both have arrived" diff -r out.from-image out.from-mount
vexfs rm -r "$mount/from-image"
vexfs rm -r "$image:/from-mount"
refused "cp beside every VexFS" 2 "neither" vexfs cp tree/fox.txt elsewhere
same_failure "cp of a directory into itself" 1 "into itself" vexfs cp -r @/tree @/tree/deep/x
same_failure "cp of a file onto itself" 1 "into itself" vexfs cp @/fox @/fox

same "collection create" vexfs collection create % points --dim 8 --type u8 --model mine
same "collection create with all options" vexfs collection create % codes --dim 8 --metric cosine \
  --quant i8 --degree 16 --build-effort 64
same_failure "collection create of what is there" 1 points vexfs collection create % points --dim 8
same_failure "collection create without a dimension" 1 empty vexfs collection create % empty --dim 0
same_failure "collection create with a bad name" 1 a/b vexfs collection create % a/b --dim 8
same "collection list" vexfs collection list %
same "collection list --json" vexfs collection list % --json
same "collection show" vexfs collection show % codes
same_failure "collection show of nothing" 1 "no collection is called 'no'" vexfs collection show % no
same_failure "collection drop of nothing" 1 "no collection is called 'no'" vexfs collection drop % no

values=1,2,3,4,5,6,7,8
same "vector put" vexfs vector put @/fox points --values $values
same "vector put with all options" vexfs vector put @/fox points --values 8,7,6,5,4,3,2,1 --chunk 7 \
  --offset 3 --length 4 --tag 9
same "vector put in place of another" vexfs vector put @/fox points --values 9,9,9,9,9,9,9,9
same "vector put from a file" vexfs vector put @/tree/copy.txt points --npy few.npy:3
same "vector get" vexfs vector get @/fox points
same "vector get --json" vexfs vector get @/fox points --chunk 7 --json
same "vector list" vexfs vector list @/fox
same "vector list --json" vexfs vector list @/fox points --json
same "stat counts vectors" vexfs stat @/tree/copy.txt
same_failure "vector put of another dimension" 1 8 vexfs vector put @/fox points --values 1,2
same_failure "vector put of no direction" 1 zero \
  vexfs vector put @/fox codes --values 0,0,0,0,0,0,0,0
same_failure "vector put to a directory" 1 "is a directory" vexfs vector put @/ points --values $values
same_failure "vector put to nothing" 1 /no vexfs vector put @/no points --values $values
same_failure "vector put from a version to come" 1 /fox \
  vexfs vector put @/fox points --values $values --content-version 1000000
same_failure "vector get of nothing" 1 "no vector of chunk 5" vexfs vector get @/fox points --chunk 5
same "cp within carries vectors" vexfs cp @/fox @/twin
same "the copy's vectors" vexfs vector list @/twin --json
same "cp over a longer file carries vectors" vexfs cp @/fox @/tree/big
same "that copy's vectors and bytes" vexfs vector list @/tree/big
test_that "that copy's bytes" sh -c "vexfs cat '$mount/tree/big' | cmp - tree/deep/soup.md"
same "cp -r within carries vectors" vexfs cp -r @/tree @/grove
same "vectors of a tree's copy" vexfs vector list @/grove/copy.txt
same "vector rm" vexfs vector rm @/fox points --chunk 7
same_failure "vector rm of nothing" 1 "no vector of chunk 7" vexfs vector rm @/fox points --chunk 7
same "vector rm --all" vexfs vector rm @/twin points --all
same "what is left of vectors" vexfs vector list @/twin
same "search of vectors" vexfs search @/ points --npy few.npy:3 --json
printf 'changed' >new
same "cp makes vectors stale" vexfs cp new @/tree/copy.txt
same "a stale vector" vexfs vector list @/tree/copy.txt
same "search tells stale" vexfs search @/tree points --npy few.npy:3 -k 2
same "search --fresh" vexfs search @/ points --npy few.npy:3 --fresh --json
printf 'written' >"$mount/twin"
vexfs vector put "$mount/twin" points --values $values
says "a vector is fresh" fresh vexfs vector list "$mount/twin"
printf 'written again' >"$mount/twin"
says "writing through the kernel makes it stale" stale vexfs vector list "$mount/twin"
same "rm of it" vexfs rm @/twin

same "import --create" vexfs import --create @/base.npy digits base.npy
same "import --json" vexfs import --create --metric manhattan --model m @/few.npy few few.npy --json
same "collections after the imports" vexfs collection list % --json
same_failure "import to what is there" 1 "is there already" vexfs import @/base.npy digits base.npy
same_failure "import to no collection" 1 "no collection is called 'no'" vexfs import @/x no base.npy
same "a narrow collection" vexfs collection create % narrow --dim 3
same_failure "import of another dimension" 1 few.npy vexfs import @/x narrow few.npy
same_failure "import by another metric" 1 "compares by" \
  vexfs import --create --metric l2 @/x few few.npy
same "import into a directory" vexfs import @/tree few few.npy
same "search of a row" vexfs search @/ digits --npy base.npy:123 -k 3 --exact --json
same "search of many rows" vexfs search @/ few --npy few.npy -k 2 --json
same "search within a radius" vexfs search @/ few --npy few.npy:5 --radius 0
same "search by suffix" vexfs search @/ few --npy few.npy:5 --suffix few.npy --json
same "search by no suffix" vexfs search @/ few --npy few.npy:5 --suffix "" -k 3
same "search by size" vexfs search @/ few --npy few.npy:5 --min-size 100 --max-size 1K --json
same "search by owner" vexfs search @/ few --npy few.npy:5 --uid 12345
same "search since long ago" vexfs search @/ few --npy few.npy:5 --newer 2000-01-01 --json
same "search since tomorrow" vexfs search @/ few --npy few.npy:5 --newer 2999-01-01
same "search below a directory" vexfs search @/tree few --npy few.npy:5 --json
same "search by tag" vexfs search @/ points --npy few.npy:5 --tag 1-9
same "search like a file" vexfs search @/ few --like @/few.npy -k 5
same_failure "search with too much effort" 1 effort vexfs search @/ few --npy few.npy:5 --ef 100000
same_failure "search for too many" 1 "hits of one search" \
  vexfs search @/ digits --npy many.npy -k 4096
same_failure "search of nothing" 1 "no collection is called 'no'" \
  vexfs search @/ no --npy few.npy:5
same_failure "search below a file" 1 /fox vexfs search @/fox few --npy few.npy:5
on_mount vexfs export % digits mount.npy >out 2>err
on_image vexfs export % digits image.npy >out 2>err
test_that "export" cmp mount.npy image.npy
test_that "export gives what was imported" cmp mount.npy base.npy
same "collection rebuild" vexfs collection rebuild % digits
same "search by the graph" vexfs search @/ digits --npy base.npy:123 -k 1 --json
if [ "$(id -u)" = 0 ]; then
  printf 'eight by' >secret
  same "a file of root's" vexfs cp --preserve secret @/secret
  chmod 600 "$mount/secret"
  vexfs cp --preserve "$mount/secret" "$image:/secret" >out 2>err
  same "a vector of it" vexfs vector put @/secret few --npy few.npy:5 --chunk 9999
  for who in 0 1000 1000:1000,7; do
    same "search --as $who" vexfs search @/ few --npy few.npy:5 -k 3 --as $who --json
  done
  says "root finds a vector of a closed file" /secret \
    vexfs search "$mount" few --npy few.npy:5 --as 0 --suffix secret
  says "and nobody else" "Nothing was found" \
    vexfs search "$mount" few --npy few.npy:5 --as 1000 --suffix secret
  refused "search --as nobody at all" 1 "user 4294967295" \
    vexfs search "$mount" few --npy few.npy:5 --as 4294967295
  same "rm of it" vexfs rm @/secret
fi

same "embed" vexfs embed @/kept texts --json
same "embed again" vexfs embed @/kept texts --json
same "embed --verbose" vexfs embed --verbose @/kept texts
same "embed --again" vexfs embed --again @/kept texts --json
same "embed of a copy takes known vectors" vexfs embed @/tree texts --json
same "vectors of a text" vexfs vector list @/kept/deep/er/law.txt --json
same "search of a text" vexfs search @/ texts --text 'without any warranty' -k 4
same "search of a text --json" vexfs search @/kept texts --text 'carrots and water' --json
same "search like a text" vexfs search @/ texts --like @/kept/fox.txt -k 3
same_failure "search by another model" 1 model vexfs search @/ points --text x
same "rm takes vectors with it" vexfs rm @/kept/deep/er/law.txt
same "what was removed is not found" vexfs search @/kept texts --text 'without any warranty'
same "mv takes vectors with it" vexfs mv @/kept/deep @/renamed
same "what was moved is found" vexfs search @/renamed texts --text 'carrots and water'
test_that "the kernel's rm" rm "$mount/tree/deep/soup.md"
vexfs rm "$image:/tree/deep/soup.md"
same "takes vectors with it too" vexfs search @/tree texts --text 'carrots and water' --json
same_failure "embed to another model's collection" 1 "cannot be compared" vexfs embed @/ points
same_failure "embed of nothing" 1 /no vexfs embed @/no texts

says "info" "block size" vexfs info "$mount"
says "info of a directory below" '"block_bytes":4096' vexfs info --json "$mount/tree"
test_that "an image on the mount is an image" mkfs.vexfs -q "$mount/inner.vexfs" 4M
says "its info" 4.0 vexfs info "$mount/inner.vexfs"
test_that "a place in it" vexfs cp new "$mount/inner.vexfs:/new"
says "what is in it" changed vexfs cat "$mount/inner.vexfs:/new"
rm "$mount/inner.vexfs"
says "bench fs" readdir vexfs bench fs --files 100 --size 1M "$mount"
{ printf '\223NUMPY\001\000\166\000'
  printf '%-117s\n' "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1), }"
  printf '\007'; } >truth.npy
npy one.npy 8
{ printf '\223NUMPY\001\000\166\000'
  printf '%-117s\n' "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 8), }"
  tail -c 8 one.npy; } >query.npy
says "bench ann" '"recall":1.0' \
  vexfs bench ann "$mount" few --query query.npy --truth truth.npy -k 1 --ef 16 --json
refused "fsck" 8 "Unmount it" fsck.vexfs -n "$mount"
refused "mkfs" 1 "neither a regular file nor a block device" mkfs.vexfs "$mount"
device=$(awk -v mount="$mount" '$2 == mount { device = $1 } END { print device }' /proc/mounts)
if [ -b "$device" ]; then
  sync
  says "dump" superblock vexfs dump "$mount"
  says "dump --json" '"record":"superblock"' vexfs dump --superblocks --json "$mount"
  refused "mkfs of the mounted device" 1 "mounted at $mount" mkfs.vexfs "$device"
  refused "fsck -y of the mounted device" 8 "mounted at $mount" fsck.vexfs -y "$device"
  refused "a change of the mounted device" 1 "mounted at $mount" vexfs mkdir "$device:/x"
fi

# Somebody else finds what they may read, and manages nothing.
if [ "$(id -u)" = 0 ] && id nobody >/dev/null 2>&1; then
  as_nobody() { su -s /bin/sh nobody -c "PATH=$PATH; cd /; $*"; }
  chmod 755 "$scratch"
  printf 'A secret about carrots and water.\n' >"$mount/secret"
  chmod 600 "$mount/secret"
  vexfs embed "$mount/secret" texts >out 2>err
  says "root finds a secret" secret vexfs search "$mount" texts --text 'secret carrots' -k 9
  as_nobody vexfs search "$mount" texts --text "'secret carrots'" -k 9 >out 2>err
  if grep -q renamed out && ! grep -q secret out; then
    ok "somebody else does not"
  else
    not_ok "somebody else does not" out err
  fi
  refused "nor lists its vectors" 1 "ermission" as_nobody vexfs vector list "$mount/secret"
  says "but sees that it is there" '"content_version":null' \
    as_nobody vexfs ls --json "$mount/secret"
  refused "nor searches on behalf of root" 1 "by root alone" \
    as_nobody vexfs search "$mount" texts --text carrots --as 0
  refused "nor makes collections" 1 "made and dropped by" \
    as_nobody vexfs collection create "$mount" theirs --dim 8
  mkdir "$mount/theirs" && chown nobody "$mount/theirs"
  printf 'anybody may write here' >"$mount/open"
  chmod 666 "$mount/open"
  test_that "writes over a file where they may make none" \
    as_nobody vexfs cp "$mount/kept/fox.txt" "$mount/open"
  says "which has arrived" fox vexfs cat "$mount/open"
  says "but puts vectors of their own files" "2000 vectors" \
    as_nobody vexfs import "$mount/theirs/base.npy" digits "$scratch/base.npy"
  as_nobody vexfs export "$mount" texts /tmp/nobody.npy -f >out 2>err
  if grep -q "vectors of 'texts' written" out; then ok "and exports"; else not_ok "and exports" out err; fi
  rm -f /tmp/nobody.npy
fi

same "collection drop" vexfs collection drop % digits
for name in points codes narrow few texts; do vexfs collection drop "$mount" $name; done
vexfs ls "$mount" | while read -r name; do vexfs rm -r "$mount/$name"; done
test_that "nothing is left" [ -z "$(vexfs ls "$mount")" ]
test_that "the image is sound" fsck.vexfs -n "$image"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]

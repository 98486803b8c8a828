#!/usr/bin/env bash
# Directories: many names, long names, readdir while names come and go, link counts.
. "$(dirname "$0")/lib.sh"

make dir d
expect 2 readdir d
for i in $(seq 2000); do : >"d/file-with-a-name-of-some-length-$i"; done
expect 2002 readdir d
same "$(ls d | sort -u | wc -l)" 2000 "every name is listed once"
ok $([ -e d/file-with-a-name-of-some-length-1999 ]; echo $?) "one of them is found"
expect ENOENT lstat d/file-with-a-name-of-some-length-2001 type
rm d/*[02468]
same "$(ls d | wc -l)" 1000 "half of them are left"
rm d/*
expect 2 readdir d
expect 0 rmdir d
expect ENOTDIR readdir /dev/null
expect ENOENT readdir nothing

make dir long
for i in $(seq 50); do
	: >"long/$(printf "%03d%.0s" "$i" $(seq 85))"
done
expect 52 readdir long
forget long

# Deep.
path=.
for i in $(seq 100); do path=$path/d; done
mkdir -p "$path"
ok $? "a hundred levels"
expect d stat "$path" type
rm -rf ./d
expect ENOENT lstat d type

# Link counts of a directory with many subdirectories.
make dir many
for i in $(seq 300); do mkdir many/$i; done
expect 302 stat many nlink
rmdir many/*
expect 2 stat many nlink

# Removing while reading: rm -r of a large directory leaves nothing, find sees each name once.
make dir churn
for i in $(seq 3000); do : >churn/$i; done
find churn -type f -print -delete | sort -u | wc -l >count
same "$(cat count)" 3000 "find -delete saw each name once"
expect 2 readdir churn

# A removed directory that is still open: empty, and nothing can be made in it.
expect 0 rmdir churn
make dir gone
(
	cd gone || exit 1
	rmdir ../gone
	[ "$(ls -A . | wc -l)" = 0 ] && ! : 2>/dev/null >x
)
ok $? "a removed directory is empty and stays so"

done_testing

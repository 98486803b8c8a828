#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# memory= and 32 MiB more are enough: the daemon lives in a memory cgroup of that size while
# mappings and buffered writes of several times as much go through it.
# IOMAPFS_PLAIN_BIN: a build without a sanitizer, whose shadow would need more.
: "${IOMAPFS_PLAIN_BIN:=${IOMAPFS_BIN:-}}"
IOMAPFS_BIN=$IOMAPFS_PLAIN_BIN
. "$(dirname "$0")/lib.sh"
MEMORY_MIB=64
group=/sys/fs/cgroup/memory/iomapfs-$$
if ! mkdir "$group" 2>/dev/null || ! echo $(((MEMORY_MIB + 32) << 20)) >"$group/memory.limit_in_bytes" 2>/dev/null; then
	rmdir "$group" 2>/dev/null
	skip "a memory cgroup" "no memory controller of cgroup v1 to be had here"
	done_testing
	exit 0
fi
leave_group() {
	cleanup_group_rc=$?
	umount "$mnt" 2>/dev/null || umount -l "$mnt" 2>/dev/null
	for _ in $(seq 100); do rmdir "$group" 2>/dev/null && break; sleep 0.1; done
	(exit $cleanup_group_rc)
	cleanup
}
trap leave_group EXIT
kills() { sed -n 's/^oom_kill //p' "$group/memory.oom_control"; }

mkfs_it 1G
(echo "$BASHPID" >"$group/cgroup.procs" && exec mount.iomapfs -o "$IOMAPFS_MOUNT_OPTIONS,memory=${MEMORY_MIB}M,kernel_cache=writeback" "$img" "$mnt")
ok $? "mount with memory=${MEMORY_MIB}M in a cgroup of $((MEMORY_MIB + 32)) MiB"
grep -qx "$(iomapctl info --json "$mnt" | python3 -c 'import json,sys; print(json.load(sys.stdin)["pid"])')" "$group/cgroup.procs"
ok $? "the daemon is in it"
timeout 180 python3 - "$mnt" <<'P'
import mmap, os, random, sys, threading
SIZE, WRITERS = 96 << 20, 2
root = sys.argv[1]
bad = []

def mapped(n):
    rng = random.Random(n)
    with open(f"{root}/mapped{n}", "w+b") as f:
        f.truncate(SIZE)
        m = mmap.mmap(f.fileno(), SIZE)
        pages = list(range(SIZE // 4096))
        rng.shuffle(pages)
        for i, p in enumerate(pages):
            m[p * 4096:p * 4096 + 8] = p.to_bytes(8, "little")
            if i % 8000 == 7999:
                m.flush()
        m.flush()
        os.fsync(f.fileno())
        bad.extend(p for p in pages if m[p * 4096:p * 4096 + 8] != p.to_bytes(8, "little"))

def buffered(n):
    with open(f"{root}/buffered{n}", "w+b", buffering=0) as f:
        for i in range(SIZE // 65536):
            f.write(i.to_bytes(4, "little") * 16384)
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        f.seek(0)
        bad.extend(i for i in range(SIZE // 65536) if f.read(65536) != i.to_bytes(4, "little") * 16384)

threads = [threading.Thread(target=t, args=(n,)) for n in range(WRITERS) for t in (mapped, buffered)]
for t in threads:
    t.start()
for t in threads:
    t.join()
sys.exit(bool(bad))
P
ok $? "384 MiB by mappings and writes, all read back"
same "$(kills)" 0 "nobody was killed for memory"
peak=$(($(cat "$group/memory.max_usage_in_bytes") >> 20))
ok $((peak > MEMORY_MIB + 32)) "the peak was $peak MiB"
umount_it
ok $? "unmount"
iomapctl wait --timeout 60 "$img"
fsck_it
done_testing

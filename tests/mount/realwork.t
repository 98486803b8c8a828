#!/usr/bin/env bash
# Real work on the mount: a source tree cloned, built and tested there; trees in by tar; a database; an
# overlay with its upper layer here. After each a remount, and every byte compared.
IMG_SIZE=4G
. "$(dirname "$0")/../posix/lib.sh"

top=$(cd "$here/../.." && pwd)
remount() {
	cd /
	umount "$mnt" && "$IOMAPFS_BIN/mount.iomapfs" -o "$IOMAPFS_MOUNT_OPTIONS" "$tmp/img" "$mnt" && cd "$dir"
}

# A C project: this one.
if [ -d "$top/.git" ] && git clone -q "$top" src >"$tmp/git.log" 2>&1; then
	ok 0 "git clone onto the mount"
	git -C src fsck --full >"$tmp/git.log" 2>&1 && [ -z "$(git -C src status --porcelain)" ]
	ok $? "git fsck and a clean status there"
	(cd src && meson setup build -Dtests=true >"$tmp/build.log" 2>&1 && ninja -C build >>"$tmp/build.log" 2>&1)
	ok $? "configure and build there"
	(cd src && meson test -C build --no-rebuild --suite util --suite block --suite format --suite iomap >"$tmp/test.log" 2>&1)
	ok $? "its unit tests pass there"
	tail -n 3 "$tmp/test.log" | sed 's/^/# /'
	sum=$(find src -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)
	remount
	ok $? "remount"
	same "$(find src -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)" "$sum" "every file of the built tree reads the same after a remount"
	rm -rf src
	ok $? "rm -rf of the tree"
else
	skip "a clone of the project" "this is no git checkout"
fi

# Trees by tar.
mkdir tar
tar -C /usr -cf - include share/doc 2>/dev/null | tar -C tar -xf -
ok $? "tar of /usr/include and /usr/share/doc"
remount
diff -r --no-dereference /usr/include tar/include >"$tmp/diff" && diff -r --no-dereference /usr/share/doc tar/share/doc >>"$tmp/diff"
ok $? "diff -r shows nothing after a remount"
head -5 "$tmp/diff" | sed 's/^/# /'
rm -rf tar

# SQLite in WAL mode.
if command -v sqlite3 >/dev/null; then
	sqlite3 db >/dev/null <<-SQL
		pragma journal_mode=wal;
		create table t(a integer primary key, b text);
		create index i on t(b);
		with recursive n(i) as (select 1 union all select i+1 from n where i<300000)
		 insert into t select i, hex(i*2654435761) from n;
	SQL
	ok $? "sqlite3 in WAL mode writes 300000 rows"
	remount
	same "$(sqlite3 db 'pragma integrity_check; select count(*) from t;' | tr '\n' ' ')" "ok 300000 " "integrity_check after a remount"
	rm -f db db-wal db-shm
fi

# An overlayfs with upper and work here: whiteouts, opaque directories, copy-up, O_TMPFILE.
mkdir lower upper work merged
mkdir lower/etc lower/gone
echo one >lower/etc/conf
echo two >lower/gone/x
if mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged 2>"$tmp/ovl.log"; then
	echo changed >>merged/etc/conf && rm -r merged/gone && mkdir merged/gone && echo new >merged/gone/y &&
		mv merged/etc/conf merged/etc/conf2 && ln merged/etc/conf2 merged/hard &&
		mkdir merged/etc/sub && rm -rf merged/etc/sub
	ok $? "changes through an overlay whose upper layer is here"
	same "$(ls merged/gone)" y "a replaced directory is opaque"
	printf 'int main(void){return 0;}' >merged/a.c && cc -o merged/a merged/a.c && merged/a
	ok $? "compile and run in the overlay"
	umount merged
	mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged
	same "$(cat merged/etc/conf2 merged/hard)" "$(printf 'one\nchanged\none\nchanged')" "the overlay reads the same again"
	umount merged
else
	ok 1 "an overlay with upper and work on the mount"
	sed 's/^/# /' "$tmp/ovl.log"
fi
done_testing

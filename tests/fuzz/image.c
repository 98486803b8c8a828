/* SPDX-License-Identifier: MIT */
/*
 * The image: made once by the file system itself, with fixed identity and seed, kept as its
 * blocks that are not zero. Damage is addressed by what a block is and which of its kind, not
 * by place, so that a corpus survives changes of layout and allocation.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "fuzz.h"
#include "iomapfs/journal.h"
#include "mk.h"
#include "super.h"

#define IMAGE_SIZE (16ull << 20)
#define MAX_BLOCKS 4096u
#define NR_LONG_NAMES 40
#define NR_SPLIT_EXTENTS 200

struct base {
	unsigned nr;
	uint64_t mblk[MAX_BLOCKS];
	uint8_t *data;                       /* nr blocks */
	unsigned nr_kind[FUZZ_NR_KINDS];
	uint64_t kind[FUZZ_NR_KINDS][MAX_BLOCKS];
};
static struct base bases[2];
static struct sb_info base_sb;
static pthread_once_t made = PTHREAD_ONCE_INIT;

uint64_t in_number(struct fuzz_in *in)
{
	const uint16_t w = in_u16(in);
	const uint64_t v = (uint64_t)(w & 0xff) << (w >> 8 & 0x3f);

	return w & 0x8000 ? v - 1 : w & 0x4000 ? v + 1 : v;
}

void in_bytes(struct fuzz_in *in, void *to, size_t n)
{
	const size_t have = MIN(n, (size_t)(in->end - in->p));

	memcpy(to, in->p, have);
	memset((uint8_t *)to + have, 0, n - have);
	in->p += have;
}

void fuzz_quiet(void)
{
	log_set_sink(getenv("FUZZ_LOG") ? log_stderr : NULL, NULL);
}

static _Atomic bool complained;

static void listening_sink(enum log_level lvl, const char *line, void *arg)
{
	if (lvl != LOG_LVL_ERR)
		return;
	fprintf(stderr, "%s\n", line);
	atomic_store(&complained, true);
}

bool fuzz_judges(void)
{
	return getenv("FUZZ_JUDGE");
}

void fuzz_listen(void)
{
	atomic_store(&complained, false);
	log_set_sink(listening_sink, NULL);
}

bool fuzz_heard(void)
{
	return atomic_load(&complained);
}

void fuzz_complained(void)
{
	if (fuzz_heard())
		abort();
}

/* ---- Making it ----------------------------------------------------------------------- */

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "the fuzz targets' own image cannot be made: %s\n", what);
	abort();
}

static struct fs_ctx ctx0 = { .umask = 022 };

static struct fs_inode *file(struct fs_inode *dir, const char *name, mode_t mode)
{
	struct fs_inode *ip;
	int err = S_ISDIR(mode) ? fs_mkdir(&ctx0, dir, name, strlen(name), mode & 07777, &ip) :
				  fs_mknod(&ctx0, dir, name, strlen(name), mode, 1, 3, &ip);

	must(err == 0, name);
	return ip;
}

static void write_at(struct fs_inode *ip, uint64_t pos, const char *text, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)text, len };
	struct kiocb iocb = { .ki_inode = fs_vfs_inode(ip), .ki_pos = pos, .ki_flags = IOCB_WRITE };
	struct iov_iter from;

	iov_iter_init(&from, &iov, 1, len);
	must(fs_write_iter(&ctx0, &iocb, &from, false) == (int64_t)len, "write");
}

static void make_files(struct fs *fs, struct fs_inode *root)
{
	static char value[9000];
	struct fs_inode *ip;

	memset(value, 'v', sizeof(value));
	ip = file(root, "inline", S_IFREG | 0644);
	write_at(ip, 0, "hello", 5);
	must(fs_setxattr(&ctx0, ip, "user.short", "abcd", 4, 0) == 0, "short attribute");
	fs_iput(ip);
	ip = file(root, "list", S_IFREG | 04755);
	write_at(ip, 0, value, 5000);
	write_at(ip, 40000, value, 100);
	must(fs_setxattr(&ctx0, ip, "user.blob", value, sizeof(value), 0) == 0, "long attribute");
	for (char name[] = "user.a"; name[5] < 'k'; name[5]++)
		must(fs_setxattr(&ctx0, ip, name, value, 300, 0) == 0, "attribute list");
	must(fs_link(&ctx0, ip, root, "list2", 5) == 0, "link");
	fs_iput(ip);
	ip = file(root, "tree", S_IFREG | 0644);
	for (unsigned i = 0; i < NR_SPLIT_EXTENTS; i++)
		must(fs_fallocate(&ctx0, ip, 0, (uint64_t)i * 8192, 4096) == 0, "fallocate");
	write_at(ip, 8192, value, 4096);
	fs_iput(ip);
	fs_iput(file(root, "null", S_IFCHR | 0666));
	fs_iput(file(root, "fifo", S_IFIFO | 0666));
	must(fs_symlink(&ctx0, root, "short", 5, "inline", &ip) == 0, "symlink");
	fs_iput(ip);
	value[4090] = '\0';
	must(fs_symlink(&ctx0, root, "long", 4, value, &ip) == 0, "long symlink");
	fs_iput(ip);
}

static void long_name(char name[256], int i)
{
	memset(name, 'a' + i % 26, 200);
	snprintf(name + 200, 20, "%d", i);
}

static void make_dirs(struct fs *fs, struct fs_inode *root)
{
	struct fs_inode *dir = file(root, "dir", S_IFDIR | 0755), *down, *ip;
	char name[256];

	for (int i = 0; i < NR_LONG_NAMES; i++) {
		long_name(name, i);
		fs_iput(file(dir, name, S_IFREG | 0600));
	}
	fs_iput(dir);
	dir = file(root, "a", S_IFDIR | 02775);
	down = file(dir, "b", S_IFDIR | 0700);
	ip = file(down, "c", S_IFDIR | 0755);
	fs_iput(file(ip, "deep", S_IFREG | 0644));
	fs_iput(ip);
	fs_iput(down);
	fs_iput(dir);
}

/* Two files with blocks in common, and one of each alone. */
static void make_shared(struct fs *fs, struct fs_inode *root)
{
	static char value[12288];
	struct fs_inode *a = file(root, "shared", S_IFREG | 0644), *b = file(root, "clone", S_IFREG | 0644);

	memset(value, 's', sizeof(value));
	write_at(a, 0, value, sizeof(value));
	must(fs_clone_range(&ctx0, a, 0, b, 0, 8192) == 0, "clone");
	write_at(b, 8192, value, 4096);
	fs_iput(a);
	fs_iput(b);
}

/* Work whose transactions stay in the journal: new blocks, and freed ones (revokes). */
static void make_dirty(struct fs *fs, struct fs_inode *root)
{
	struct fs_inode *dir;
	char name[256];

	fs_iput(file(root, "new", S_IFREG | 0644));
	must(fs_sync(fs) == 0, "sync");
	must(fs_lookup(&ctx0, root, "dir", 3, &dir) == 0, "dir");
	for (int i = 0; i < NR_LONG_NAMES; i++) {
		long_name(name, i);
		must(fs_unlink(&ctx0, dir, name, strlen(name)) == 0, "unlink");
	}
	fs_iput(dir);
	must(fs_rmdir(&ctx0, root, "dir", 3) == 0, "rmdir");
	must(fs_unlink(&ctx0, root, "tree", 4) == 0, "unlink");
	must(fs_quiesce(fs) == 0 && fs_sync(fs) == 0, "sync");
	fs_iput(file(root, "newer", S_IFDIR | 0755));
	must(fs_sync(fs) == 0, "sync");
}

static int kind_of(const struct sb_info *sb, uint64_t mblk, const void *block)
{
	static const uint32_t magics[] = {
		[FUZZ_KIND_SB] = OD_MAGIC_SB,	  [FUZZ_KIND_AG] = OD_MAGIC_AG,
		[FUZZ_KIND_BTREE] = OD_MAGIC_BTREE, [FUZZ_KIND_INODES] = OD_MAGIC_INODES,
		[FUZZ_KIND_DIR] = OD_MAGIC_DIR,	  [FUZZ_KIND_BLOB] = OD_MAGIC_BLOB,
		[FUZZ_KIND_JSB] = OD_MAGIC_JSB,
	};

	if (mblk > sb->jnl_start && mblk < sb->jnl_start + sb->jnl_len)
		return FUZZ_KIND_LOG;
	for (int k = 0; k < FUZZ_KIND_LOG; k++)
		if (le32_get(((const struct od_hdr *)block)->magic) == magics[k])
			return k;
	return -1;
}

/* Keep what is not zero. A block's bytes and its kind stand in the order of its place. */
static void snapshot(struct base *b, struct bd *bd)
{
	static const uint8_t zero[OD_MBLK_SIZE];
	const uint8_t *base = bd_mem_base(bd);

	b->data = malloc((size_t)MAX_BLOCKS * OD_MBLK_SIZE);
	must(b->data, "memory");
	for (uint64_t mblk = 0; mblk < IMAGE_SIZE >> OD_MBLK_SHIFT; mblk++) {
		const uint8_t *block = base + (mblk << OD_MBLK_SHIFT);
		int kind;

		if (memcmp(block, zero, OD_MBLK_SIZE) == 0)
			continue;
		memcpy(b->data + (size_t)b->nr * OD_MBLK_SIZE, block, OD_MBLK_SIZE);
		b->mblk[b->nr++] = mblk;
		kind = kind_of(&base_sb, mblk, block);
		if (kind >= 0)
			b->kind[kind][b->nr_kind[kind]++] = mblk;
	}
}

static struct bd *make_empty(void)
{
	struct mk_params p = { .hash_seed = 0x1234567890abcdef, .now_sec = 1700000000 };
	struct mk_geom g;
	struct bd *bd;

	memset(p.uuid, 0x11, sizeof(p.uuid));
	memset(p.meta_uuid, 0x22, sizeof(p.meta_uuid));
	must(bd_mem_create(IMAGE_SIZE, 512, &bd) == 0, "device");
	must(mk_geom_compute(IMAGE_SIZE, OD_MBLK_SHIFT, 1 + 4 * (JNL_MAX_CREDITS + 4), 0, &g) == NULL,
	     "geometry");
	must(mk_write(bd, &g, &p) == 0, "mkfs");
	must(od_sb_decode(bd_mem_base(bd), 0, 0, &base_sb) == NULL, "superblock");
	return bd;
}

static void make(void)
{
	struct bd *bd = make_empty();
	struct fs_mount_opts opts = { .commit_interval_ms = 60000 };
	struct fs_inode *root, *orphan;
	struct fs_error err;
	struct fs *fs;

	must(fs_mount(bd, &opts, &fs, &err) == 0, err.text);
	must(fs_iget(fs, FS_ROOT_INO, 0, &root) == 0, "root");
	make_files(fs, root);
	make_dirs(fs, root);
	make_shared(fs, root);
	must(fs_tmpfile(&ctx0, root, S_IFREG | 0600, &orphan) == 0, "orphan");
	write_at(orphan, 0, "no name", 7);
	must(fs_quiesce(fs) == 0 && jnl_checkpoint(fs->jnl) == 0, "checkpoint");
	snapshot(&bases[FUZZ_CLEAN], bd);
	make_dirty(fs, root);
	snapshot(&bases[FUZZ_DIRTY], bd);
	fs_iput(orphan);
	fs_iput(root);
	must(fs_unmount(fs) == 0, "unmount");
}

/* ---- Copies --------------------------------------------------------------------------------- */

struct bd *fuzz_image_new(enum fuzz_base which)
{
	const struct base *b = &bases[which];
	struct bd *bd;

	pthread_once(&made, make);
	must(bd_mem_create(IMAGE_SIZE, 512, &bd) == 0, "device");
	for (unsigned i = 0; i < b->nr; i++)
		memcpy((uint8_t *)bd_mem_base(bd) + (b->mblk[i] << OD_MBLK_SHIFT),
		       b->data + (size_t)i * OD_MBLK_SIZE, OD_MBLK_SIZE);
	return bd;
}

uint64_t fuzz_image_size(void)
{
	return IMAGE_SIZE;
}

struct bd *fuzz_image_copy(struct bd *from)
{
	struct bd *bd;

	must(bd_mem_create(IMAGE_SIZE, 512, &bd) == 0, "device");
	memcpy(bd_mem_base(bd), bd_mem_base(from), IMAGE_SIZE);
	return bd;
}

const struct sb_info *fuzz_image_sb(void)
{
	pthread_once(&made, make);
	return &base_sb;
}

uint64_t fuzz_image_block(enum fuzz_base which, unsigned kind, unsigned nth)
{
	const struct base *b = &bases[which];

	pthread_once(&made, make);
	kind %= FUZZ_NR_KINDS;
	return b->nr_kind[kind] ? b->kind[kind][nth % b->nr_kind[kind]] : 0;
}

/* ---- Damage ------------------------------------------------------------------------------------ */

enum { D_BYTES, D_ADDRESS, D_ADD, D_NUMBER, D_INODE, D_COPY, D_SWAP, D_END };
#define D_NO_CRC 0x80u

static void put(uint8_t *block, size_t at, const void *bytes, size_t n)
{
	memcpy(block + at, bytes, MIN(n, OD_MBLK_SIZE - at));
}

/* value += delta in a field of 1 << log bytes. */
static void add(uint8_t *block, size_t at, unsigned log, int delta)
{
	const size_t n = MIN((size_t)1 << log, OD_MBLK_SIZE - at);
	uint64_t v = 0;

	memcpy(&v, block + at, n);
	v += (uint64_t)(int64_t)delta;
	memcpy(block + at, &v, n);
}

static void copy_block(uint8_t *base, uint8_t *block, uint64_t from_mblk, bool swap)
{
	uint8_t *from = base + (from_mblk << OD_MBLK_SHIFT), tmp[OD_PAYLOAD];

	memcpy(tmp, block + OD_HDR_SIZE, OD_PAYLOAD);
	memmove(block + OD_HDR_SIZE, from + OD_HDR_SIZE, OD_PAYLOAD);
	if (swap)
		memcpy(from + OD_HDR_SIZE, tmp, OD_PAYLOAD);
}

static void seal(uint8_t *block)
{
	const le32_t crc = le32_make(od_crc(block));

	memcpy(block + offsetof(struct od_hdr, crc), &crc, sizeof(crc));
}

static void damage_one(uint8_t *base, enum fuzz_base which, unsigned op, struct fuzz_in *in)
{
	const unsigned kind = in_u8(in), nth = in_u8(in);
	uint8_t *block = base + (fuzz_image_block(which, kind, nth) << OD_MBLK_SHIFT), bytes[16];
	const size_t at = in_u16(in) % OD_MBLK_SIZE;
	uint64_t v, other;
	unsigned n;

	switch (op & 7) {
	case D_BYTES:
		n = in_u8(in) % 16 + 1;
		in_bytes(in, bytes, n);
		put(block, at, bytes, n);
		break;
	case D_ADD:
		n = in_u8(in);
		add(block, at, n & 3, (int8_t)in_u8(in));
		break;
	case D_NUMBER:
		n = in_u8(in);
		v = in_number(in);
		put(block, at, &v, (size_t)1 << (n & 3));
		break;
	default:
		n = in_u8(in);
		other = fuzz_image_block(which, n, in_u8(in));
		v = (op & 7) == D_INODE ? od_ino_make(other, n >> 4) : other;
		if ((op & 7) == D_ADDRESS || (op & 7) == D_INODE)
			put(block, at, &v, sizeof(v));
		else
			copy_block(base, block, other, (op & 7) == D_SWAP);
		if ((op & 7) == D_SWAP)
			seal(base + (other << OD_MBLK_SHIFT));
	}
	if (!(op & D_NO_CRC))
		seal(block);
}

/* Give one descriptor's images their checksums; the ring index behind them. */
static uint64_t reseal_images(uint8_t *ring, uint64_t ring_len, struct od_hdr *desc, uint64_t at)
{
	struct od_jdesc_entry *e = (void *)(desc + 1);
	const unsigned n = MIN(le16_get(desc->nrecs), OD_JDESC_MAX);

	for (unsigned i = 0; i < n; i++) {
		e[i].crc = le32_make(od_crc32c(0, ring + (at << OD_MBLK_SHIFT), OD_MBLK_SIZE));
		at = (at + 1) % ring_len;
	}
	return at;
}

/* Walk the log as recovery does and make its checksums fit what it holds now. */
static void reseal_log(uint8_t *base)
{
	const struct od_jsb *jsb = (void *)(base + (base_sb.jnl_start << OD_MBLK_SHIFT));
	uint8_t *ring = base + ((base_sb.jnl_start + 1) << OD_MBLK_SHIFT);
	const uint64_t ring_len = base_sb.jnl_len - 1;
	uint64_t at = le64_get(jsb->tail_block) % ring_len;
	uint32_t chain = 0;

	for (uint64_t i = 0; i < ring_len; i++) {
		struct od_hdr *h = (void *)(ring + (at << OD_MBLK_SHIFT));
		const uint32_t magic = le32_get(h->magic);

		at = (at + 1) % ring_len;
		if (magic == OD_MAGIC_JDESC)
			at = reseal_images(ring, ring_len, h, at);
		else if (magic == OD_MAGIC_JCOMMIT)
			((struct od_jcommit *)h)->chain_crc = le32_make(chain);
		else if (magic != OD_MAGIC_JREV)
			return;
		seal((uint8_t *)h);
		chain = magic == OD_MAGIC_JCOMMIT ? 0 : od_crc32c(chain, &h->crc, sizeof(h->crc));
	}
}

void fuzz_image_damage(struct bd *bd, enum fuzz_base which, struct fuzz_in *in)
{
	bool chain = which == FUZZ_DIRTY;

	while (in_left(in)) {
		const unsigned op = in_u8(in);

		if ((op & 7) == D_END)
			break;
		if (op & D_NO_CRC)
			chain = false;
		damage_one(bd_mem_base(bd), which, op, in);
	}
	if (chain)
		reseal_log(bd_mem_base(bd));
}

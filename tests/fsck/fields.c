/* SPDX-License-Identifier: MIT */
/*
 * Every field of every structure gets a wrong value, under a sound checksum: the checker must find it
 * (where a wrong value can be told from a right one), the repair must mend it, and what it leaves
 * must be a file system that works. Driven by the table of fields alone.
 *
 * usage: fields [-s SEED] [-n CASES]     CASES: 0 = all; else at least one of each field
 *        fields -c BASE MBLK FIELD HEX   one case again, as a failure names it
 *
 * A case: a block of the image, a field in it, bytes to put there. Fields that are alike have one
 * key: "inodes inode.mode", "tree node extents rec.val.len"; each key is tried before any is tried
 * again.
 */
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../crash/disk.h"
#include "../fuzz/fuzz.h"
#include "iomapfs/check.h"
#include "iomapfs/format_field.h"

#define MAX_CASES 40000u
#define KEY_MAX   (OD_PATH_MAX + 64)
#define BYTES_MAX 16u

struct field_case {
	enum fuzz_base base;
	uint64_t mblk;
	char path[OD_PATH_MAX], key[KEY_MAX];
	struct od_place place;      /* path aside */
	bool again;                 /* its key was there before */
};
static struct field_case *cases;
static unsigned nr_cases, nr_keys;
static struct rng rng;

/* ---- The checker -------------------------------------------------------------------------- */

static struct image images[2];   /* by base, and what a case makes of it */
static char *text;               /* what the checker said last */

static int check(struct image *im, bool repair, struct chk_result *res)
{
	struct bd *bd = image_open(im);
	struct chk_opts opts = { .readonly = !repair };
	size_t size;
	int err;

	free(text);
	text = NULL;
	opts.out = open_memstream(&text, &size);
	if (!opts.out)
		abort();
	err = chk_run(bd, &opts, res);
	fclose(opts.out);
	bd_close(bd);
	return err;
}

/* ---- What can be expected -------------------------------------------------------------- */

enum expect {
	FOUND,    /* any other value is wrong, and found */
	PERHAPS,  /* some other values are as good, or look so */
	IGNORED,  /* any value is as good */
};

/* Where nothing is said: FOUND. The first that matches counts. */
static const struct {
	const char *key;
	enum expect expect;
	const char *why;
} expectations[] = {
	{ "*hdr.seq", IGNORED, "only the journal compares it, with its own" },
	{ "tree node* rest", IGNORED, "behind the last record" },
	{ "blob rest", IGNORED, "behind the data" },
	{ "directory block entry.unused", IGNORED, "behind the name" },
	{ "directory block free.ino", FOUND, "" },
	{ "directory block free.rec_len", PERHAPS, "the next entry may be free as well" },
	{ "directory block free.*", IGNORED, "no name" },
	{ "directory block next_free", PERHAPS, "of a block on the list" },
	{ "blob data", PERHAPS, "a target or value: any is as good; a list of attributes is not" },
	{ "group header reserve", PERHAPS, "behind the last one in use" },
	{ "multiple-mount protection time_sec", IGNORED, "for people" },
	{ "multiple-mount protection node", PERHAPS, "for people" },
	{ "multiple-mount protection device", PERHAPS, "for people" },
	/* A free slot has its magic, its number, and mode and links 0. */
	{ "inodes free inode.magic", FOUND, "" },
	{ "inodes free inode.ino", FOUND, "" },
	{ "inodes free inode.mode", FOUND, "" },
	{ "inodes free inode.nlink", FOUND, "" },
	{ "inodes free *", IGNORED, "means nothing in a free slot" },
	{ "inodes *inode.uid", IGNORED, "anybody" },
	{ "inodes *inode.gid", IGNORED, "anybody" },
	{ "inodes *inode.projid", IGNORED, "any" },
	{ "inodes *inode.gen", IGNORED, "any" },
	{ "inodes *inode.version", IGNORED, "any" },
	{ "inodes *time.sec", IGNORED, "any" },
	{ "inodes *time.nsec", PERHAPS, "below a second" },
	{ "inodes *inode.mode", PERHAPS, "permissions" },
	{ "inodes *inode.flags", PERHAPS, "those we know" },
	{ "inodes file inode.data_flags", PERHAPS, "a file may say that it shares when it does not" },
	{ "inodes dir inode.parent", FOUND, "" },
	{ "inodes *inode.parent", IGNORED, "only directories have one" },
	{ "inodes special inode.rdev_m*", PERHAPS, "of a device any" },
	{ "inodes file inode.data_fmt", PERHAPS, "an empty file may have no extents or no bytes" },
	{ "inodes file inode.size", PERHAPS, "longer than its data is a hole" },
	{ "inodes *.unused", IGNORED, "between data and attributes" },
	{ "inodes *inode.data", PERHAPS, "contents" },
	{ "inodes *inode.extent.val.flags", PERHAPS, "unwritten or not" },
	{ "inodes *inode.extent.file_block", PERHAPS, "elsewhere in the file" },
	{ "inodes *inode.xattr.name", PERHAPS, "another name" },
	{ "inodes *inode.xattr.name_len", PERHAPS, "another name: the padding hides one byte" },
	{ "inodes *inode.xattr.value_len", PERHAPS, "another value: as with the name" },
	{ "inodes *inode.xattr.ns", PERHAPS, "another namespace" },
	{ "inodes *inode.xattr.value", PERHAPS, "another value" },
	{ "inodes *inode.xattr.pad", IGNORED, "padding" },
	{ "tree node extents* rec.val.flags", PERHAPS, "unwritten or not" },
	{ "tree node extents* rec.file_block", PERHAPS, "elsewhere in the file" },
	{ "tree node *inner rec.key*", PERHAPS, "at most the first key below, above all before" },
	{ "journal superblock *", PERHAPS, "of a journal with nothing to replay" },
	{ "journal descriptor *", PERHAPS, "the log ends before it" },
	{ "journal revocations *", PERHAPS, "the log ends before it" },
	{ "journal commit *", PERHAPS, "the log ends before it" },
};

static enum expect expected(const char *key)
{
	for (unsigned i = 0; i < ARRAY_SIZE(expectations); i++)
		if (!fnmatch(expectations[i].key, key, 0))
			return expectations[i].expect;
	return FOUND;
}

/* ---- The cases ----------------------------------------------------------------------------- */

/* "tree node extents": nodes of different trees have different fields. */
static void block_title(const uint8_t *block, char *title, size_t size)
{
	const struct od_hdr *h = (const void *)block;
	const struct od_tree_geom *geom = od_tree_geom(le16_get(h->type));

	snprintf(title, size, "%s%s%s%s", od_block_name(block),
		 le32_get(h->magic) == OD_MAGIC_BTREE && geom ? " " : "",
		 le32_get(h->magic) == OD_MAGIC_BTREE && geom ? geom->name : "",
		 le32_get(h->magic) == OD_MAGIC_BTREE && le16_get(h->level) ? " inner" : "");
}

/* What an inode is: a field means something else in each. */
static const char *inode_title(const uint8_t *block, const struct od_place *p)
{
	const struct od_inode *di;
	unsigned slot;

	if (sscanf(p->path, "inode[%u]", &slot) != 1)
		return "";
	di = (const void *)(block + od_ino_offset(slot));
	switch (le16_get(di->mode) & S_IFMT) {
	case 0:
		return "free ";
	case S_IFDIR:
		return "dir ";
	case S_IFLNK:
		return "symlink ";
	case S_IFREG:
		return "file ";
	default:
		return "special ";
	}
}

static void make_key(struct field_case *c, const uint8_t *block, const struct od_place *p)
{
	size_t n;

	block_title(block, c->key, sizeof(c->key));
	n = strlen(c->key);
	n += (size_t)snprintf(c->key + n, sizeof(c->key) - n, " %s", inode_title(block, p));
	for (const char *at = p->path; *at && n + 1 < sizeof(c->key); at++) {
		if (*at == '[')
			at += strcspn(at, "]");
		else
			c->key[n++] = *at;
	}
	c->key[n] = '\0';
}

/* Of long arrays the first, the second, some in between: the rest is like them. */
static bool sampled(const char *path)
{
	const char *bracket = strchr(path, '[');
	const int i = bracket && strncmp(path, "inode[", 6) != 0 ? atol(bracket + 1) : 0;

	return i < 2 || i % 61 == 0;
}

struct collect {
	enum fuzz_base base;
	uint64_t mblk;
	const uint8_t *block;
};

static int collect_field(void *arg, const struct od_place *p)
{
	const struct collect *co = arg;
	struct field_case *c = &cases[nr_cases];

	if (!sampled(p->path) || nr_cases == MAX_CASES)
		return 0;
	*c = (struct field_case){ .base = co->base, .mblk = co->mblk, .place = *p };
	snprintf(c->path, sizeof(c->path), "%s", p->path);
	make_key(c, co->block, p);
	nr_cases++;
	return 0;
}

static bool in_ring(uint64_t mblk)
{
	const struct sb_info *sb = fuzz_image_sb();

	return mblk > sb->jnl_start && mblk < sb->jnl_start + sb->jnl_len;
}

/* Some blocks look like metadata and were given back: nobody misses what they hold. */
static bool in_use(uint64_t mblk)
{
	struct image *im = &images[FUZZ_CLEAN];
	struct chk_result res;

	image_fill(im, mblk << OD_MBLK_SHIFT, 0xaa, OD_MBLK_SIZE);
	return check(im, false, &res) || res.found;
}

/* Of the clean image all blocks but the ring, of the dirty one the ring. */
static void collect(enum fuzz_base base)
{
	struct collect co = { .base = base };
	union {
		uint8_t b[OD_MBLK_SIZE];
		struct od_hdr hdr;
	} block;

	co.block = block.b;
	for (co.mblk = 0; co.mblk < fuzz_image_size() >> OD_MBLK_SHIFT; co.mblk++) {
		image_reset(&images[base]);
		image_read(&images[base], co.mblk << OD_MBLK_SHIFT, &block, sizeof(block));
		/* In the ring, the log's own blocks: images are those of other blocks. */
		if (in_ring(co.mblk) == (base == FUZZ_DIRTY) && od_block_name(&block) &&
		    le64_get(block.hdr.mblk) == co.mblk && (base == FUZZ_DIRTY || in_use(co.mblk)))
			od_block_walk(&block, collect_field, &co);
	}
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct field_case *)a)->key, ((const struct field_case *)b)->key);
}

static int first_ones_first(const void *a, const void *b)
{
	return ((const struct field_case *)a)->again - ((const struct field_case *)b)->again;
}

static void collect_all(void)
{
	cases = calloc(MAX_CASES, sizeof(*cases));
	if (!cases)
		abort();
	collect(FUZZ_CLEAN);
	collect(FUZZ_DIRTY);
	for (unsigned i = nr_cases - 1; i > 0; i--) {
		const unsigned k = (unsigned)rng_below(&rng, i + 1);
		const struct field_case tmp = cases[i];

		cases[i] = cases[k];
		cases[k] = tmp;
	}
	/* glibc's qsort is a merge sort for these sizes, so that the shuffle stays; if not, no harm. */
	qsort(cases, nr_cases, sizeof(*cases), by_key);
	for (unsigned i = 0; i < nr_cases; i++) {
		cases[i].again = i > 0 && !strcmp(cases[i].key, cases[i - 1].key);
		nr_keys += !cases[i].again;
	}
	qsort(cases, nr_cases, sizeof(*cases), first_ones_first);
}

/* ---- Wrong values ------------------------------------------------------------------------------ */

static uint64_t other_number(const struct field_case *c, uint64_t v)
{
	const unsigned bits = c->place.size * 8;
	const uint64_t all = bits == 64 ? UINT64_MAX : (1ull << bits) - 1;
	const unsigned kind = (unsigned)rng_below(&rng, FUZZ_NR_KINDS), nth = (unsigned)rng_u64(&rng);

	switch (rng_below(&rng, 8)) {
	case 0:
		return 0;
	case 1:
		return all;
	case 2:
		return (v + 1) & all;
	case 3:
		return (v - 1) & all;
	case 4:
		return rng_u64(&rng) & all;
	case 5:
	case 6:
		if (c->place.kind == OD_FK_MBLK || c->place.kind == OD_FK_FSB)
			return fuzz_image_block(c->base, kind, nth) & all;
		if (c->place.kind == OD_FK_INO)
			return od_ino_make(fuzz_image_block(c->base, FUZZ_KIND_INODES, nth), 1 + nth % 7) & all;
		/* fall through */
	default:
		return v ^ (1ull << rng_below(&rng, bits));
	}
}

/* A mount waits so many seconds: few of them, or more than there can be. */
static bool patient(const struct field_case *c, uint64_t v)
{
	return strstr(c->path, "mmp_interval_s") && v > 1 && v <= OD_MMP_INTERVAL_MAX;
}

/* The bytes to put there, not those that are there; how many. */
static unsigned wrong_value(const struct field_case *c, const uint8_t *block, uint8_t bytes[BYTES_MAX],
			    unsigned *at)
{
	*at = 0;
	if (od_kind_is_number(c->place.kind)) {
		const uint64_t v = od_place_get(block, &c->place);
		uint64_t other = v;

		while (other == v || patient(c, other))
			other = other_number(c, v);
		memcpy(bytes, &other, c->place.size);
		return c->place.size;
	}
	*at = (unsigned)rng_below(&rng, c->place.size);
	bytes[0] = block[c->place.offset + *at] ^ (uint8_t)(1 + rng_below(&rng, 255));
	return 1;
}

/* ---- Judgement ------------------------------------------------------------------------------------ */

static const char *work_in(struct fs_ctx *ctx, struct fs_inode *root, struct fs_inode *dir)
{
	static char data[9000];
	struct iovec iov = { data, sizeof(data) };
	struct kiocb iocb = { .ki_flags = IOCB_WRITE };
	struct fs_inode *ip;
	struct iov_iter from;
	int64_t n;

	if (fs_mknod(ctx, dir, "file", 4, S_IFREG | 0600, 0, 0, &ip) != 0)
		return "create failed";
	iocb.ki_inode = fs_vfs_inode(ip);
	iov_iter_init(&from, &iov, 1, sizeof(data));
	n = fs_write_iter(ctx, &iocb, &from, false);
	fs_iput(ip);
	if (n != (int64_t)sizeof(data))
		return "write failed";
	if (fs_rename(ctx, dir, "file", 4, root, "moved", 5, 0) != 0)
		return "rename failed";
	return fs_unlink(ctx, root, "moved", 5) != 0 ? "unlink failed" : NULL;
}

static const char *work(struct fs *fs)
{
	struct fs_ctx ctx = { .umask = 022 };
	struct fs_inode *root, *dir;
	const char *why;

	if (fs_iget(fs, FS_ROOT_INO, 0, &root) != 0)
		return "no root";
	/* The root may be immutable or append-only now: flags as good as others. */
	if (fs_set_flags(&ctx, root, 0, 0) != 0 || fs_mkdir(&ctx, root, "after", 5, 0755, &dir) != 0) {
		fs_iput(root);
		return "mkdir failed";
	}
	why = work_in(&ctx, root, dir);
	fs_iput(dir);
	if (!why && fs_rmdir(&ctx, root, "after", 5) != 0)
		why = "rmdir failed";
	fs_iput(root);
	return why;
}

/* Mounted, everything looked at, something done, unmounted, checked. */
static const char *use(struct image *im)
{
	struct fs_mount_opts opts = { .readonly = false };
	struct bd *bd = image_open(im);
	struct chk_result res;
	struct fs_error err;
	const char *why;
	struct fs *fs;

	fuzz_listen();
	if (fs_mount(bd, &opts, &fs, &err) != 0) {
		printf("# %s\n", err.text);
		bd_close(bd);
		return "cannot be mounted";
	}
	fuzz_ops_walk(fs);
	why = work(fs);
	if (fs_unmount(fs) != 0 && !why)
		why = "unmount failed";
	if (!why && fuzz_heard())
		why = "the mount complained";
	if (!why && (check(im, false, &res) || res.found))
		why = "damaged by use";
	return why;
}

/* NULL: all as it should be, else what is not. */
static const char *judge(struct image *im, enum expect expect)
{
	struct chk_result res;
	int err = check(im, false, &res);

	/* Features of a newer version: neither to repair nor to write to. */
	if (err == -EOPNOTSUPP)
		return NULL;
	if (err)
		return "the check ended with an error";
	if (expect == FOUND && !res.found)
		return "not found";
	if (expect == IGNORED && res.found)
		return "found, and should not matter";
	if (res.found) {
		const bool unknown = res.unknown;

		err = check(im, true, &res);
		if (err)
			return "the repair ended with an error";
		if (unknown)
			return res.repaired ? "repaired what it does not know" : NULL;
		if (res.left || check(im, false, &res) || res.found)
			return "not repaired";
	}
	return use(im);
}

/* ---- Running ------------------------------------------------------------------------------------------ */

static bool run_bytes(const struct field_case *c, unsigned at, const uint8_t *bytes, unsigned len)
{
	struct image *im = &images[c->base];
	union {
		uint8_t b[OD_MBLK_SIZE];
		struct od_hdr hdr;
	} block;
	const char *why;

	image_reset(im);
	image_read(im, c->mblk << OD_MBLK_SHIFT, &block, OD_MBLK_SIZE);
	memcpy(block.b + c->place.offset + at, bytes, len);
	if (c->place.kind != OD_FK_CRC)
		block.hdr.crc = le32_make(od_crc(&block));
	image_write(im, c->mblk << OD_MBLK_SHIFT, &block, OD_MBLK_SIZE);
	why = judge(im, expected(c->key));
	if (!why)
		return true;
	printf("# %s: %s\n#   again: -c %d %llu %u:", c->key, why, c->base, (unsigned long long)c->mblk,
	       c->place.offset + at);
	for (unsigned i = 0; i < len; i++)
		printf("%02x", bytes[i]);
	printf("   (%s)\n", c->path);
	for (const char *line = text; line && *line; line += strcspn(line, "\n") + 1) {
		printf("#   %.*s\n", (int)strcspn(line, "\n"), line);
		if (!strchr(line, '\n'))
			break;
	}
	return false;
}

static bool run_case(const struct field_case *c)
{
	uint8_t block[OD_MBLK_SIZE], bytes[BYTES_MAX];
	unsigned at, len;

	image_reset(&images[c->base]);
	image_read(&images[c->base], c->mblk << OD_MBLK_SHIFT, block, sizeof(block));
	len = wrong_value(c, block, bytes, &at);
	return run_bytes(c, at, bytes, len);
}

struct find {
	unsigned offset;
	struct field_case *c;
	const uint8_t *block;
};

static int find_place(void *arg, const struct od_place *p)
{
	struct find *f = arg;

	if (f->offset < p->offset || f->offset >= p->offset + p->size)
		return 0;
	f->c->place = *p;
	snprintf(f->c->path, sizeof(f->c->path), "%s", p->path);
	make_key(f->c, f->block, p);
	return 1;
}

/* -c BASE MBLK OFFSET:HEX, as printed. */
static int run_again(char **argv)
{
	struct field_case c = { .base = atol(argv[0]) ? FUZZ_DIRTY : FUZZ_CLEAN,
				.mblk = strtoull(argv[1], NULL, 10) };
	struct find f = { .c = &c, .offset = (unsigned)strtoul(argv[2], NULL, 10) };
	const char *hex = strchr(argv[2], ':');
	uint8_t block[OD_MBLK_SIZE], bytes[BYTES_MAX];
	unsigned len = 0, v;

	if (!hex)
		return 2;
	image_read(&images[c.base], c.mblk << OD_MBLK_SHIFT, block, sizeof(block));
	f.block = block;
	od_block_walk(block, find_place, &f);
	for (hex++; len < BYTES_MAX && sscanf(hex + 2 * len, "%2x", &v) == 1; len++)
		bytes[len] = (uint8_t)v;
	return run_bytes(&c, f.offset - c.place.offset, bytes, len) ? 0 : 1;
}

static int run_all(uint64_t seed, uint64_t max)
{
	uint64_t done, failed = 0;

	rng_seed(&rng, seed);
	collect_all();
	for (done = 0; done < nr_cases && (!max || done < MAX(max, nr_keys)); done++)
		failed += !run_case(&cases[done]);
	printf("seed %llu: %llu of %u cases, %u fields: %llu failed\n", (unsigned long long)seed,
	       (unsigned long long)done, nr_cases, nr_keys, (unsigned long long)failed);
	free(cases);
	return failed != 0;
}

int main(int argc, char **argv)
{
	struct bd *made[2];
	bool again = false;
	int opt, ret = 2;
	uint64_t seed = 1, max = 0;

	for (int base = 0; base < 2; base++) {
		made[base] = fuzz_image_new((enum fuzz_base)base);
		image_init(&images[base], bd_mem_base(made[base]), fuzz_image_size());
	}
	while ((opt = getopt(argc, argv, "s:n:c")) != -1) {
		if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (opt == 'n')
			max = strtoull(optarg, NULL, 0);
		else
			again = opt == 'c';
	}
	if (again && argc - optind == 3)
		ret = run_again(argv + optind);
	else if (!again && argc == optind)
		ret = run_all(seed, max);
	free(text);
	for (int base = 0; base < 2; base++) {
		image_fini(&images[base]);
		bd_close(made[base]);
	}
	return ret;
}

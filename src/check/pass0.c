/* SPDX-License-Identifier: MIT */
/* Pass 0: the superblock and its copies, feature words, the journal. */
#include <stdlib.h>
#include <string.h>

#include "chk.h"

static bool has_our_magic(const void *block)
{
	const struct od_sb *d = block;

	return le32_get(d->hdr.magic) == OD_MAGIC_SB ||
	       memcmp(d->magic, OD_SB_MAGIC, sizeof(d->magic)) == 0;
}

/* The copy of group 1, at whichever size groups may have. */
static bool find_copy(struct chk *c, void *block, uint64_t *at)
{
	for (unsigned shift = OD_AG_SHIFT_MIN; shift <= OD_AG_SHIFT_MAX; shift++) {
		*at = 1ull << shift;
		if (*at > c->bd->info.size || c->bd->info.size - *at < OD_MBLK_SIZE)
			return false;
		if (bd_read(c->bd, *at, block, OD_MBLK_SIZE) == 0 &&
		    !od_sb_decode(block, 1, c->bd->info.size, &c->sb))
			return true;
	}
	return false;
}

/* False: nothing to go on with; *err 0 when that was raised as a problem. */
static bool find_superblock(struct chk *c, void *block, int *err)
{
	const uint64_t size = c->bd->info.size;
	const char *bad;
	bool ours;
	uint64_t at;

	*err = -EMEDIUMTYPE;
	if (size < OD_MBLK_SIZE)
		return false;
	*err = bd_read(c->bd, 0, block, OD_MBLK_SIZE);
	bad = *err ? "cannot be read" : od_sb_decode(block, 0, size, &c->sb);
	if (!bad)
		return true;
	chk_at(c, "superblock");
	ours = !*err && has_our_magic(block);
	if (find_copy(c, block, &at)) {
		*err = 0;
		chk_raise(c, CHK_P_SB_PRIMARY, "%s; copy at byte %llu", bad, (unsigned long long)at);
		return true;
	}
	if (ours)
		chk_raise(c, CHK_P_SB_NONE, "%s", bad);
	else if (!*err)
		*err = -EMEDIUMTYPE;
	return false;
}

static bool check_features(struct chk *c)
{
	enum od_mountable m;
	const char *word;
	uint64_t bits;

	m = od_features_check(&c->sb, &bits, &word);
	if (m == OD_MOUNT_RW)
		return true;
	chk_at(c, "superblock");
	chk_raise(c, CHK_P_SB_FEATURE, "%s 0x%llx", word, (unsigned long long)bits);
	return m == OD_MOUNT_RO_ONLY;
}

static bool same_sb(const struct sb_info *a, const struct sb_info *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static void check_copies(struct chk *c, void *block)
{
	for (uint32_t agno = 1; agno < c->sb.nr_ags; agno++) {
		const uint64_t mblk = od_ag_start_mblk(&c->od, agno) + OD_AG_SB_MBLK;
		struct sb_info copy;
		const char *bad = chk_read(c, mblk, block) ?
					  "cannot be read" :
					  od_sb_decode(block, agno, c->bd->info.size, &copy);

		chk_at(c, "group %u", agno);
		if (bad)
			chk_raise(c, CHK_P_SB_COPY, "%s", bad);
		else if (!same_sb(&copy, &c->sb))
			chk_raise(c, CHK_P_SB_COPY_DIFFERS, "%s", "");
	}
}

static void check_journal(struct chk *c, void *block)
{
	const struct od_jsb *jsb = block;
	const char *bad;

	chk_at(c, "journal");
	bad = bd_read(c->bd, c->od.jnl_start << OD_MBLK_SHIFT, block, OD_MBLK_SIZE) ?
		      "cannot be read" :
		      od_verify_jsb(&c->od, block, true);
	if (bad) {
		chk_raise(c, CHK_P_JNL_SB, "%s", bad);
		return;
	}
	if (le64_get(jsb->incompat) & ~OD_JNL_INCOMPAT_KNOWN) {
		chk_raise(c, CHK_P_JNL_FEATURE, "0x%llx", (unsigned long long)le64_get(jsb->incompat));
		return;
	}
	c->clean = le64_get(jsb->clean) == 1;
	c->jnl_ok = true;
	c->jnl_next = le64_get(jsb->tail_seq);
	/* Also of one that says it is clean: a mount believes what it finds at the tail. */
	chk_replay(c);
}

/* The log may hold a newer superblock (a label was set, reflink switched on): judge by that one. */
static void reread_superblock(struct chk *c, void *block)
{
	struct sb_info sb;

	if (chk_read(c, 0, block) || od_sb_decode(block, 0, c->bd->info.size, &sb))
		return;
	c->sb = sb;
	c->od.reflink = sb.ro_compat & OD_RO_COMPAT_REFLINK;
}

/* All zero is how mkfs leaves it. */
static void check_mmp(struct chk *c, uint8_t *block)
{
	const char *bad;

	if (chk_read(c, OD_AG_MMP_MBLK, block)) {
		bad = "cannot be read";
	} else {
		if (!block[0] && !memcmp(block, block + 1, OD_MBLK_SIZE - 1))
			return;
		bad = od_verify_mmp(&c->od, block, true);
	}
	chk_at(c, "multiple-mount protection");
	if (bad)
		chk_raise(c, CHK_P_MMP_BLOCK, "%s", bad);
}

bool chk_pass0(struct chk *c, int *err)
{
	void *block = chk_block_alloc(c);
	enum chk_use other;
	bool go_on = false;

	*err = -ENOMEM;
	if (!block)
		return false;
	if (!find_superblock(c, block, err))
		goto out_free;
	*err = -EOPNOTSUPP;
	if (!check_features(c))
		goto out_free;
	*err = -ENOMEM;
	od_ctx_init(&c->od, &c->sb);
	c->bad_ag = calloc(c->sb.nr_ags, sizeof(*c->bad_ag));
	if (!c->bad_ag)
		goto out_free;
	check_journal(c, block);
	if (!c->clean)
		reread_superblock(c, block);
	check_copies(c, block);
	check_mmp(c, block);
	for (uint32_t agno = 0; agno < c->sb.nr_ags; agno++) {
		const uint64_t head = od_ag_start_mblk(&c->od, agno) * CHK_MBLK_UNITS;

		chk_claim(c, CHK_HEAD, head, head + (OD_AG_HEAD_SIZE >> CHK_UNIT_SHIFT), &other);
	}
	chk_claim(c, CHK_JNL, c->od.jnl_start * CHK_MBLK_UNITS,
		  (c->od.jnl_start + c->od.jnl_len) * CHK_MBLK_UNITS, &other);
	*err = c->error;
	go_on = *err == 0;
out_free:
	free(block);
	return go_on;
}

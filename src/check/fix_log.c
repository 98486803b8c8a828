/* SPDX-License-Identifier: MIT */
/* Repair: the log goes home and is emptied; superblocks. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fix.h"

/*
 * Numbers far beyond any that the ring may hold, for a journal superblock that told nothing: no
 * old transaction can be taken for the successor of a new one.
 */
static uint64_t fresh_number(void)
{
	return (uint64_t)time(NULL) << 24;
}

static int write_jsb(struct fix *f)
{
	struct chk *c = f->c;
	struct od_jsb *jsb = chk_block_alloc(c);
	/* As recovery does: more than the ring has blocks, so that its remains stay remains. */
	const uint64_t next = c->jnl_ok ? c->jnl_next + c->od.jnl_len : fresh_number();
	int err;

	if (!jsb)
		return -ENOMEM;
	memset(jsb, 0, OD_MBLK_SIZE);
	od_hdr_init(jsb, OD_MAGIC_JSB, c->od.meta_uuid, 0, c->od.jnl_start);
	jsb->tail_seq = le64_make(next);
	jsb->clean = le64_make(1);
	od_seal(jsb, 0);
	err = bd_write(c->bd, c->od.jnl_start << OD_MBLK_SHIFT, jsb, OD_MBLK_SIZE, BD_META);
	free(jsb);
	if (!err)
		err = bd_flush(c->bd);
	/* What it says now: an empty log, whose next transaction has this number and begins the ring. */
	c->jnl_ok = !err;
	c->jnl_next = next;
	f->log_begun = !err;
	return err;
}

int chk_fix_log(struct fix *f)
{
	struct chk *c = f->c;
	int err;

	if (c->jnl_ok && c->clean)
		return 0;
	err = chk_replay_home(c);
	if (!err)
		err = bd_flush(c->bd);
	if (!err)
		err = write_jsb(f);
	chk_overlay_free(c);
	return err;
}

/* ---- Blocks that change in place ------------------------------------------------------------------- */

unsigned chk_fix_log_room(const struct fix *f)
{
	/* One DESC and one COMMIT stand beside them. */
	return (unsigned)MIN(f->c->od.jnl_len - 1 - 2, (uint64_t)OD_JDESC_MAX);
}

/* What the blocks of a transaction are, in the first block of its ring. */
static void make_desc(struct fix *f, void *block, const uint64_t *mblks, const uint8_t *images, unsigned n)
{
	struct od_jdesc_entry *e = (void *)((uint8_t *)block + OD_HDR_SIZE);
	struct od_hdr *h = block;

	memset(block, 0, OD_MBLK_SIZE);
	od_hdr_init(block, OD_MAGIC_JDESC, f->c->od.meta_uuid, 0, f->c->od.jnl_start + 1);
	h->nrecs = le16_make((uint16_t)n);
	for (unsigned i = 0; i < n; i++) {
		e[i].mblk = le64_make(mblks[i]);
		e[i].crc = le32_make(od_crc32c(0, images + (size_t)i * OD_MBLK_SIZE, OD_MBLK_SIZE));
	}
	od_seal(block, f->c->jnl_next);
}

/* The transaction counts from here on. */
static int write_commit(struct fix *f, const struct od_hdr *desc, unsigned n)
{
	struct chk *c = f->c;
	const uint64_t mblk = c->od.jnl_start + 1 + n + 1;
	struct od_jcommit *commit = chk_block_alloc(c);
	int err;

	if (!commit)
		return -ENOMEM;
	memset(commit, 0, OD_MBLK_SIZE);
	od_hdr_init(commit, OD_MAGIC_JCOMMIT, c->od.meta_uuid, 0, mblk);
	commit->nr_blocks = le64_make(n + 2);
	commit->time_sec = le64_make((uint64_t)time(NULL));
	commit->chain_crc = le32_make(od_crc32c(0, &desc->crc, sizeof(desc->crc)));
	od_seal(commit, c->jnl_next);
	err = bd_flush(c->bd);
	if (!err)
		err = bd_write(c->bd, mblk << OD_MBLK_SHIFT, commit, OD_MBLK_SIZE, BD_META);
	free(commit);
	return err ? err : bd_flush(c->bd);
}

/*
 *	the log: empty       DESC, images, COMMIT                        empty
 *	home:    old                               new, or torn          new
 *
 * Whenever the power goes, the old ones are at home, or the new ones are in the log.
 */
int chk_fix_log_write(struct fix *f, const uint64_t *mblks, uint8_t *blocks, unsigned n)
{
	struct chk *c = f->c;
	uint8_t *images = blocks + OD_MBLK_SIZE;
	int err = f->log_begun ? 0 : write_jsb(f);

	assert(n > 0 && n <= chk_fix_log_room(f));
	for (unsigned i = 0; i < n && !err; i++)
		err = chk_fix_seal(f, mblks[i], images + (size_t)i * OD_MBLK_SIZE, c->jnl_next);
	if (err)
		return err;
	make_desc(f, blocks, mblks, images, n);
	err = bd_write(c->bd, (c->od.jnl_start + 1) << OD_MBLK_SHIFT, blocks, (n + 1ull) * OD_MBLK_SIZE,
		       BD_META);
	if (!err)
		err = write_commit(f, (const void *)blocks, n);
	for (unsigned i = 0; i < n && !err; i++)
		err = bd_write(c->bd, mblks[i] << OD_MBLK_SHIFT, images + (size_t)i * OD_MBLK_SIZE,
			       OD_MBLK_SIZE, BD_META);
	if (!err)
		err = bd_flush(c->bd);
	return err ? err : write_jsb(f);
}

/* The reserved blocks of a group's head are zero, but for multiple-mount protection. */
static int write_spare(struct fix *f, uint32_t agno, uint8_t *block)
{
	struct chk *c = f->c;
	int err = 0;

	for (unsigned i = OD_AG_MMP_MBLK; i < OD_AG_HEAD_MBLKS && !err; i++) {
		const uint64_t mblk = od_ag_start_mblk(&c->od, agno) + i;

		if (i == OD_AG_HDR_MBLK)
			continue;
		/* One that is damaged names nobody: neither does zero. */
		if (agno == 0 && i == OD_AG_MMP_MBLK && !chk_read(c, mblk, block) &&
		    !od_verify_mmp(&c->od, block, true))
			continue;
		if (!chk_read(c, mblk, block) && !block[0] &&
		    !memcmp(block, block + 1, OD_MBLK_SIZE - 1))
			continue;
		memset(block, 0, OD_MBLK_SIZE);
		err = bd_write(c->bd, mblk << OD_MBLK_SHIFT, block, OD_MBLK_SIZE, BD_META);
	}
	return err;
}

/* Those that say the same are left alone. The primary is the last. */
int chk_fix_superblocks(struct fix *f)
{
	struct chk *c = f->c;
	uint8_t *block = chk_block_alloc(c);
	int err = block ? 0 : -ENOMEM;

	for (uint32_t n = c->sb.nr_ags; n > 0 && !err; n--) {
		const uint32_t agno = n - 1;
		const uint64_t mblk = od_ag_start_mblk(&c->od, agno) + OD_AG_SB_MBLK;
		struct sb_info sb;

		err = write_spare(f, agno, block);
		if (err || (!chk_read(c, mblk, block) &&
			    !od_sb_decode(block, agno, c->bd->info.size, &sb) &&
			    !memcmp(&sb, &c->sb, sizeof(sb))))
			continue;
		if (agno == 0)
			err = bd_flush(c->bd);
		od_sb_encode(&c->sb, agno, block);
		if (!err)
			err = bd_write(c->bd, mblk << OD_MBLK_SHIFT, block, OD_MBLK_SIZE, BD_META);
	}
	free(block);
	return err ? err : bd_flush(c->bd);
}

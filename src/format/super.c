/* SPDX-License-Identifier: MIT */
/* The superblock and its copies. */
#include "format_private.h"

/* Smallest useful group, journal apart: head, trees, reserve, one inode cluster, some data. */
#define AG_SIZE_MIN (1ull << 20)

static void sb_read_fields(const struct od_sb *d, struct sb_info *sb)
{
	memset(sb, 0, sizeof(*sb));
	sb->version = le32_get(d->version);
	sb->block_shift = le16_get(d->block_shift);
	sb->cluster_shift = le16_get(d->cluster_shift);
	sb->compat = le64_get(d->compat);
	sb->ro_compat = le64_get(d->ro_compat);
	sb->incompat = le64_get(d->incompat);
	sb->jnl_incompat = le64_get(d->jnl_incompat);
	memcpy(sb->uuid, d->uuid, sizeof(sb->uuid));
	memcpy(sb->meta_uuid, d->meta_uuid, sizeof(sb->meta_uuid));
	memcpy(&sb->hash_seed, d->hash_seed, sizeof(sb->hash_seed));
	sb->nr_blocks = le64_get(d->nr_blocks);
	sb->ag_blocks = le64_get(d->ag_blocks);
	sb->nr_ags = le32_get(d->nr_ags);
	sb->jnl_start = le64_get(d->jnl_start);
	sb->jnl_len = le64_get(d->jnl_len);
	sb->root_ino = le64_get(d->root_ino);
	sb->ctime_sec = le64_get(d->ctime_sec);
	memcpy(sb->label, d->label, sizeof(d->label));
	memcpy(sb->creator, d->creator, sizeof(d->creator));
	sb->stripe_unit = le64_get(d->stripe_unit);
	sb->errors_behaviour = le16_get(d->errors_behaviour);
	sb->mmp_interval_s = le16_get(d->mmp_interval_s);
}

static const char *sb_check_geometry(const struct sb_info *sb, uint64_t dev_size)
{
	const uint64_t head_blocks = OD_AG_HEAD_SIZE >> sb->block_shift;
	uint64_t bytes, last;

	if (sb->nr_blocks == 0 || sb->nr_blocks > OD_DEV_SIZE_MAX >> sb->block_shift)
		return "size-out-of-bounds";
	bytes = sb->nr_blocks << sb->block_shift;
	if (bytes < OD_DEV_SIZE_MIN)
		return "size-out-of-bounds";
	if (!IS_ALIGNED(bytes, (uint64_t)OD_AG_HEAD_SIZE))
		return "size-not-aligned";
	if (dev_size != 0 && bytes > dev_size)
		return "device-too-small";
	if (sb->ag_blocks < AG_SIZE_MIN >> sb->block_shift || sb->ag_blocks > sb->nr_blocks ||
	    sb->ag_blocks % head_blocks != 0)
		return "bad-group-size";
	if (sb->nr_ags == 0 || sb->nr_ags > OD_AG_MAX ||
	    sb->nr_ags != DIV_ROUND_UP(sb->nr_blocks, sb->ag_blocks))
		return "bad-group-count";
	last = sb->nr_blocks - (uint64_t)(sb->nr_ags - 1) * sb->ag_blocks;
	if (last < AG_SIZE_MIN >> sb->block_shift)
		return "last-group-too-short";
	if (sb->stripe_unit > sb->ag_blocks)
		return "bad-stripe-unit";
	return NULL;
}

/* The journal lies inside one group, off its head, in whole clusters. */
static const char *sb_check_journal(const struct sb_info *sb)
{
	const uint64_t cluster = 1ull << (sb->cluster_shift - OD_MBLK_SHIFT);
	const uint64_t ag_mblks = sb->ag_blocks << sb->block_shift >> OD_MBLK_SHIFT;
	const uint64_t dev_mblks = sb->nr_blocks << sb->block_shift >> OD_MBLK_SHIFT;
	uint64_t in_ag;

	if (sb->jnl_start >= dev_mblks || sb->jnl_len < 4 ||
	    sb->jnl_len > dev_mblks - sb->jnl_start)
		return "journal-out-of-bounds";
	if (sb->jnl_start % cluster != 0 || sb->jnl_len % cluster != 0)
		return "journal-not-aligned";
	in_ag = sb->jnl_start % ag_mblks;
	if (in_ag < OD_AG_HEAD_MBLKS || sb->jnl_len > ag_mblks - in_ag)
		return "journal-crosses-group";
	return NULL;
}

static const char *sb_check_label(const struct od_sb *d)
{
	size_t len = strnlen((const char *)d->label, sizeof(d->label));

	if (!od_all_zero(d->label + len, sizeof(d->label) - len))
		return "label-not-padded";
	len = strnlen((const char *)d->creator, sizeof(d->creator));
	if (!od_all_zero(d->creator + len, sizeof(d->creator) - len))
		return "creator-not-padded";
	return NULL;
}

static const char *sb_check_spare(const struct od_sb *d)
{
	if (le32_get(d->spare32) != 0 || !od_all_zero(d->spare, sizeof(d->spare)))
		return "spare-not-zero";
	if (!od_all_zero(d + 1, OD_MBLK_SIZE - sizeof(*d)))
		return "tail-not-zero";
	return NULL;
}

/* Identity and what the rest of the checks compute with. */
static const char *sb_check_identity(const struct od_sb *d, const struct sb_info *sb)
{
	if (sb->version != OD_VERSION)
		return "unknown-version";
	if (sb->block_shift < OD_BLOCK_SHIFT_MIN || sb->block_shift > OD_BLOCK_SHIFT_MAX)
		return "bad-block-size";
	if (1u << MIN(sb->cluster_shift, 31u) != MAX(1u << sb->block_shift, OD_CLUSTER_MIN))
		return "bad-cluster-size";
	if (le32_get(d->inode_size) != OD_INODE_SIZE)
		return "bad-inode-size";
	if (sb->errors_behaviour > 1)
		return "bad-errors-behaviour";
	if (sb->mmp_interval_s > OD_MMP_INTERVAL_MAX)
		return "bad-mmp-interval";
	return NULL;
}

static const char *sb_decode(const void *block, uint32_t agno, uint64_t dev_size, bool check_crc,
			     struct sb_info *out)
{
	const struct od_sb *d = block;
	struct sb_info sb;
	struct od_ctx c;
	const char *bad;

	if (le32_get(d->hdr.magic) != OD_MAGIC_SB ||
	    memcmp(d->magic, OD_SB_MAGIC, sizeof(d->magic)) != 0)
		return "bad-magic";
	if (check_crc && le32_get(d->hdr.crc) != od_crc(block))
		return "bad-crc";
	sb_read_fields(d, &sb);
	bad = sb_check_identity(d, &sb);
	if (!bad)
		bad = sb_check_geometry(&sb, dev_size);
	if (!bad)
		bad = sb_check_journal(&sb);
	if (!bad)
		bad = sb_check_label(d);
	if (!bad)
		bad = sb_check_spare(d);
	if (bad)
		return bad;
	if (agno >= sb.nr_ags)
		return "wrong-owner";
	od_ctx_init(&c, &sb);
	bad = od_verify_hdr_part(&c, block, OD_MAGIC_SB, od_ag_start_mblk(&c, agno) + OD_AG_SB_MBLK,
				 agno, false);
	if (bad)
		return bad;
	if (!od_hdr_plain(&d->hdr))
		return "header-fields-not-zero";
	if (!od_ino_ok(&c, sb.root_ino))
		return "bad-root-inode";
	*out = sb;
	return NULL;
}

const char *od_sb_decode(const void *block, uint32_t agno, uint64_t dev_size, struct sb_info *out)
{
	return sb_decode(block, agno, dev_size, true, out);
}

const char *od_verify_sb(const struct od_ctx *c, const void *block, uint64_t mblk, bool check_crc)
{
	struct sb_info sb;
	uint32_t agno;
	const char *bad;

	if (mblk >= c->dev_mblks)
		return "wrong-address";
	agno = od_mblk_agno(c, mblk);
	if (mblk != od_ag_start_mblk(c, agno) + OD_AG_SB_MBLK)
		return "wrong-address";
	bad = sb_decode(block, agno, 0, check_crc, &sb);
	if (bad)
		return bad;
	if (memcmp(sb.meta_uuid, c->meta_uuid, sizeof(sb.meta_uuid)) != 0)
		return "wrong-uuid";
	if (sb.nr_blocks != c->nr_blocks || sb.ag_blocks != c->ag_blocks ||
	    sb.block_shift != c->block_shift)
		return "geometry-changed";
	return NULL;
}

void od_sb_encode(const struct sb_info *sb, uint32_t agno, void *block)
{
	struct od_sb *d = block;
	struct od_ctx c;

	assert(agno < sb->nr_ags);
	assert(sb->block_shift >= OD_BLOCK_SHIFT_MIN && sb->block_shift <= OD_BLOCK_SHIFT_MAX);
	od_ctx_init(&c, sb);
	memset(block, 0, OD_MBLK_SIZE);
	od_hdr_init(block, OD_MAGIC_SB, sb->meta_uuid, agno,
		    od_ag_start_mblk(&c, agno) + OD_AG_SB_MBLK);
	memcpy(d->magic, OD_SB_MAGIC, sizeof(d->magic));
	d->version = le32_make(sb->version);
	d->block_shift = le16_make((uint16_t)sb->block_shift);
	d->cluster_shift = le16_make((uint16_t)sb->cluster_shift);
	d->compat = le64_make(sb->compat);
	d->ro_compat = le64_make(sb->ro_compat);
	d->incompat = le64_make(sb->incompat);
	d->jnl_incompat = le64_make(sb->jnl_incompat);
	memcpy(d->uuid, sb->uuid, sizeof(d->uuid));
	memcpy(d->meta_uuid, sb->meta_uuid, sizeof(d->meta_uuid));
	memcpy(d->hash_seed, &sb->hash_seed, sizeof(d->hash_seed));
	d->nr_blocks = le64_make(sb->nr_blocks);
	d->ag_blocks = le64_make(sb->ag_blocks);
	d->nr_ags = le32_make(sb->nr_ags);
	d->inode_size = le32_make(OD_INODE_SIZE);
	d->jnl_start = le64_make(sb->jnl_start);
	d->jnl_len = le64_make(sb->jnl_len);
	d->root_ino = le64_make(sb->root_ino);
	d->ctime_sec = le64_make(sb->ctime_sec);
	memcpy(d->label, sb->label, strnlen(sb->label, sizeof(d->label)));
	memcpy(d->creator, sb->creator, strnlen(sb->creator, sizeof(d->creator)));
	d->stripe_unit = le64_make(sb->stripe_unit);
	d->errors_behaviour = le16_make((uint16_t)sb->errors_behaviour);
	d->mmp_interval_s = le16_make((uint16_t)sb->mmp_interval_s);
	od_seal(block, 0);
}

void od_ctx_init(struct od_ctx *c, const struct sb_info *sb)
{
	memset(c, 0, sizeof(*c));
	memcpy(c->meta_uuid, sb->meta_uuid, sizeof(c->meta_uuid));
	c->dev_mblks = sb->nr_blocks << sb->block_shift >> OD_MBLK_SHIFT;
	c->block_shift = sb->block_shift;
	c->cluster_shift = sb->cluster_shift;
	c->nr_blocks = sb->nr_blocks;
	c->ag_blocks = sb->ag_blocks;
	c->nr_ags = sb->nr_ags;
	c->jnl_start = sb->jnl_start;
	c->jnl_len = sb->jnl_len;
	c->hash_seed = sb->hash_seed;
	c->root_ino = sb->root_ino;
	c->reflink = sb->ro_compat & OD_RO_COMPAT_REFLINK;
}

static const struct {
	enum od_feature_word word;
	uint64_t bit;
	const char *name;
} feature_names[] = {
	{ OD_WORD_RO_COMPAT, OD_RO_COMPAT_REFLINK, "reflink" },
};

const char *od_feature_name(enum od_feature_word word, uint64_t bits)
{
	const uint64_t lowest = bits & -bits;

	for (size_t i = 0; i < ARRAY_SIZE(feature_names); i++)
		if (feature_names[i].word == word && feature_names[i].bit == lowest)
			return feature_names[i].name;
	return NULL;
}

enum od_mountable od_features_check(const struct sb_info *sb, uint64_t *bits, const char **word)
{
	*bits = sb->incompat & ~OD_INCOMPAT_KNOWN;
	*word = "incompat";
	if (*bits)
		return OD_MOUNT_REFUSE;
	/* Without its log a file system is not what was committed: no reading either. */
	*bits = sb->jnl_incompat & ~OD_JNL_INCOMPAT_KNOWN;
	*word = "jnl_incompat";
	if (*bits)
		return OD_MOUNT_REFUSE;
	*bits = sb->ro_compat & ~OD_RO_COMPAT_KNOWN;
	*word = "ro_compat";
	if (*bits)
		return OD_MOUNT_RO_ONLY;
	*word = NULL;
	return OD_MOUNT_RW;
}

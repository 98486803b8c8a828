/* SPDX-License-Identifier: MIT */
/* The engine's view of the block device: one iomap_bio becomes one bd_io inside it. */
#include <stdlib.h>

#include "super.h"

/* The device request lives in the bio, so that writeback needs no memory to make progress. */
_Static_assert(sizeof(struct bd_io) <= sizeof(((struct iomap_bio *)0)->dev_private),
	       "a bd_io fits into iomap_bio.dev_private");

static void io_done(struct bd_io *io)
{
	struct iomap_bio *bio = io->private;

	bio->status = io->error;
	bio->end_io(bio);
}

static void dev_submit(struct iomap_dev *dev, struct iomap_bio *bio)
{
	struct fs *fs = dev->private;
	struct bd_io *io = (struct bd_io *)bio->dev_private;

	*io = (struct bd_io){
		.op = bio->op == IOMAP_BIO_READ ? BD_READ : BD_WRITE,
		.flags = (bio->flags & IOMAP_BIO_FUA ? BD_FUA : 0) |
			 (bio->flags & IOMAP_BIO_ATOMIC ? BD_ATOMIC : 0) |
			 (bio->flags & IOMAP_BIO_POLL ? BD_POLL : 0),
		.offset = bio->addr,
		.len = bio->len,
		.iov = bio->vec,
		.nr_iov = bio->nr_vecs,
		.end_io = io_done,
		.private = bio,
	};
	/* Data goes only where files are: never to the heads of groups or the journal. */
	assert(io->op == BD_READ || od_fsb_range_ok(&fs->od, bio->addr >> fs->block_shift,
						    DIV_ROUND_UP(bio->len, (uint64_t)fs->block_size)));
	bd_submit(fs->bd, io);
}

static void dev_plug(struct iomap_dev *dev)
{
	bd_plug(((struct fs *)dev->private)->bd);
}

static void dev_unplug(struct iomap_dev *dev)
{
	bd_unplug(((struct fs *)dev->private)->bd);
}

static const struct iomap_dev_ops dev_ops = {
	.submit = dev_submit,
	.plug = dev_plug,
	.unplug = dev_unplug,
};

int fs_iodev_create(struct fs *fs)
{
	const struct bd_info *info = &fs->bd->info;
	struct iomap_dev *dev = calloc(1, sizeof(*dev));

	if (!dev)
		return -ENOMEM;
	dev->ops = &dev_ops;
	dev->logical_block = info->logical_block;
	dev->mem_align = info->mem_align;
	dev->max_io = info->max_io;
	dev->max_vecs = info->max_segments;
	dev->fua = info->fua;
	dev->volatile_cache = info->volatile_cache;
	dev->atomic_min = info->atomic_min;
	dev->atomic_max = info->atomic_max;
	/* Not the ioend pool: direct completions wait for writeback, which that pool ends. */
	dev->dio_workers = fs->dio_pool;
	dev->private = fs;
	fs->idev = dev;
	return 0;
}

void fs_iodev_destroy(struct fs *fs)
{
	free(fs->idev);
	fs->idev = NULL;
}

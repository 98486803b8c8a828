/* SPDX-License-Identifier: MIT */
/* The periodic thread: attributes reach the journal before its commits; inodes get evicted. */
#include <stdlib.h>

#include "super.h"

struct fs_bg {
	struct lk_mutex lock;   /* LK_LEAF */
	pthread_cond_t cond;
	pthread_t thread;
	bool stop;
	_Atomic bool kick;
};

static void bg_round(struct fs *fs)
{
	/* An error here has stopped the journal, which said so. */
	if (!fs_is_readonly(fs) && !fs_is_shutdown(fs))
		(void)fs_flush_dirty_inodes(fs);
	icache_shrink(fs, false);
}

static void *bg_main(void *arg)
{
	struct fs *fs = arg;
	struct fs_bg *bg = fs->bg;

	lk_lock(&bg->lock);
	while (!bg->stop) {
		/* Half a commit interval: no attribute is older than one and a half on disk. */
		uint64_t half_ns = fs->opts.commit_interval_ms * 500000ull;

		if (!atomic_load(&bg->kick))
			lk_cond_timedwait(&bg->cond, &bg->lock, clock_mono_ns() + half_ns);
		atomic_store(&bg->kick, false);
		lk_unlock(&bg->lock);
		bg_round(fs);
		lk_lock(&bg->lock);
	}
	lk_unlock(&bg->lock);
	return NULL;
}

void fs_bg_kick(struct fs *fs)
{
	struct fs_bg *bg = fs->bg;

	/* Often called, by whoever puts an inode while there are too many. */
	if (!bg || atomic_exchange(&bg->kick, true))
		return;
	lk_lock(&bg->lock);
	pthread_cond_signal(&bg->cond);
	lk_unlock(&bg->lock);
}

int fs_bg_start(struct fs *fs)
{
	struct fs_bg *bg = calloc(1, sizeof(*bg));
	int err;

	if (!bg)
		return -ENOMEM;
	lk_mutex_init(&bg->lock, LK_LEAF, "background");
	lk_cond_init(&bg->cond);
	fs->bg = bg;
	err = pthread_create(&bg->thread, NULL, bg_main, fs);
	if (err) {
		fs->bg = NULL;
		free(bg);
		return -err;
	}
	pthread_setname_np(bg->thread, "iomapfs-bg");
	return 0;
}

void fs_bg_stop(struct fs *fs)
{
	struct fs_bg *bg = fs->bg;

	if (!bg)
		return;
	lk_lock(&bg->lock);
	bg->stop = true;
	pthread_cond_signal(&bg->cond);
	lk_unlock(&bg->lock);
	pthread_join(bg->thread, NULL);
	fs->bg = NULL;
	pthread_cond_destroy(&bg->cond);
	lk_mutex_destroy(&bg->lock);
	free(bg);
}

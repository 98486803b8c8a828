/* SPDX-License-Identifier: MIT */
/*
 * Multiple-mount protection: for a device that two hosts can see, where no lock of ours
 * reaches. A block names who writes, and its number keeps changing while that one lives
 * (docs/FORMAT.md).
 *
 *	host A                          host B
 *	------                          ------
 *	writes its number a             (wants to mount: reads a)
 *	every interval: reads, finds    waits two intervals and a second
 *	  its own, writes a+1           reads a+2: in use, refused
 *	dies
 *	                                reads a+2; waits; reads a+2 again: A is dead
 *	                                writes b, waits an interval, reads b: owns it
 *	(had only been asleep)
 *	wakes, reads b: not its own,
 *	  stops its journal
 *
 * Two that start at once both write a number; the second one stands, and the first finds
 * it when its interval is over. What no such block can do is to fence A's writes between
 * its waking and its next look: the look comes first in every interval.
 */
#include <stdlib.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <time.h>

#include "super.h"

struct fs_mmp {
	struct lk_mutex lock;   /* LK_LEAF: guards stop */
	pthread_cond_t cond;
	pthread_t thread;
	bool stop, running;
	/*
	 * The thread lives before the journal does. armed: there is one to stop. lost: the
	 * device is another's. Each side sets its own before it looks at the other's.
	 */
	_Atomic bool armed, lost;
	uint64_t interval_ns;
	uint64_t seq;           /* the number that stands in our block */
	uint64_t written_ns;    /* when it got there */
	char node[sizeof(((struct utsname *)0)->nodename)];
	uint8_t *block;
};

static const char *device_name(const struct fs *fs)
{
	return fs->bd->name ? fs->bd->name : "device";
}

/* Blocks that were never written are zero: nobody's. 0, -EIO..., -EFSCORRUPTED. */
static int mmp_read(struct fs *fs, struct fs_mmp *m, uint64_t *seq)
{
	const char *test = NULL;
	int err = bd_read(fs->bd, OD_AG_MMP_MBLK << OD_MBLK_SHIFT, m->block, OD_MBLK_SIZE);

	if (err)
		return err;
	*seq = OD_MMP_CLEAN;
	if (m->block[0] == 0 && memcmp(m->block, m->block + 1, OD_MBLK_SIZE - 1) == 0)
		return 0;
	test = od_verify_mmp(&fs->od, m->block, true);
	if (test) {
		/* No journal yet, perhaps: errors= does not apply. */
		log_err("corruption in the multiple-mount protection block: %s", test);
		return -EFSCORRUPTED;
	}
	*seq = le64_get(((struct od_mmp *)m->block)->seq);
	return 0;
}

static int mmp_write(struct fs *fs, struct fs_mmp *m, uint64_t seq)
{
	int err;

	assert(m->block);
	od_mmp_init(m->block, fs->od.meta_uuid, seq, (uint64_t)time(NULL), m->node,
		    device_name(fs));
	assert(od_verify_mmp(&fs->od, m->block, true) == NULL);
	err = bd_write(fs->bd, OD_AG_MMP_MBLK << OD_MBLK_SHIFT, m->block, OD_MBLK_SIZE, BD_FUA);
	if (!err) {
		m->seq = seq;
		m->written_ns = clock_mono_ns();
	}
	return err;
}

/* ---- Taking it ------------------------------------------------------------------------------- */

static void sleep_ns(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };

	while (nanosleep(&ts, &ts) < 0)
		;
}

static int in_use(struct fs *fs, const struct fs_mmp *m, struct fs_error *err)
{
	const struct od_mmp *d = (const struct od_mmp *)m->block;

	fs_error_set(err, "%s is in use by host %.64s, which calls it %.64s: unmount it there first",
		     device_name(fs), (const char *)d->node, (const char *)d->device);
	return -EBUSY;
}

/* Somebody's name is there: alive, or gone without a word? */
static int wait_for_owner(struct fs *fs, struct fs_mmp *m, uint64_t seen, struct fs_error *err)
{
	const struct od_mmp *d = (const struct od_mmp *)m->block;
	const uint64_t wait_ns = 2 * m->interval_ns + 1000000000;
	uint64_t seq;
	int ret;

	log_info("%s: host %.64s did not unmount it, or still uses it: waiting %llu s for a sign",
		 device_name(fs), (const char *)d->node, (unsigned long long)(wait_ns / 1000000000));
	sleep_ns(wait_ns);
	ret = mmp_read(fs, m, &seq);
	if (ret)
		return ret;
	return seq == seen || seq == OD_MMP_CLEAN ? 0 : in_use(fs, m, err);
}

static int mmp_take(struct fs *fs, struct fs_mmp *m, struct fs_error *err)
{
	uint64_t seq, mine;
	int ret = mmp_read(fs, m, &seq);

	if (ret == -EFSCORRUPTED)
		fs_error_set(err, "the multiple-mount protection block of %s is damaged: see that no "
			     "other host uses it, then run fsck.iomapfs", device_name(fs));
	if (ret)
		return ret;
	if (seq == OD_MMP_FSCK) {
		fs_error_set(err, "%s is being checked by fsck.iomapfs, or such a check was "
			     "interrupted: let it end, or run fsck.iomapfs again", device_name(fs));
		return -EBUSY;
	}
	if (seq != OD_MMP_CLEAN)
		ret = wait_for_owner(fs, m, seq, err);
	if (ret)
		return ret;
	if (getrandom(&mine, sizeof(mine), 0) != sizeof(mine))
		return -EIO;
	/* Far from both reserved numbers, however often it will be raised. */
	mine = (mine >> 2) + 1;
	ret = mmp_write(fs, m, mine);
	if (ret)
		return ret;
	sleep_ns(m->interval_ns);
	ret = mmp_read(fs, m, &seq);
	if (ret)
		return ret;
	return seq == mine ? 0 : in_use(fs, m, err);
}

/* ---- Keeping it -------------------------------------------------------------------------------- */

static bool mmp_lost(struct fs *fs, struct fs_mmp *m, const char *why)
{
	atomic_store(&m->lost, true);
	if (atomic_load(&m->armed))
		fs_shutdown(fs, why);
	return false;
}

/* One sign of life. False: the device is no longer ours to write. */
static bool mmp_beat(struct fs *fs, struct fs_mmp *m)
{
	const struct od_mmp *d = (const struct od_mmp *)m->block;
	uint64_t seq;
	int err = mmp_read(fs, m, &seq);

	if (!err && seq != m->seq) {
		log_err("%s: host %.64s has taken the device over: nothing more is written here",
			device_name(fs), (const char *)d->node);
		return mmp_lost(fs, m, "another host writes to the device");
	}
	if (!err)
		err = mmp_write(fs, m, m->seq + 1);
	if (err && clock_mono_ns() - m->written_ns > 2 * m->interval_ns) {
		/* Others may take us for dead by now. */
		log_err("%s: no sign of life could be written for %llu s (%s)", device_name(fs),
			(unsigned long long)((clock_mono_ns() - m->written_ns) / 1000000000),
			strerror(-err));
		return mmp_lost(fs, m, "multiple-mount protection can not be kept up");
	}
	return true;
}

static void *mmp_main(void *arg)
{
	struct fs *fs = arg;
	struct fs_mmp *m = fs->mmp;
	bool ours = true;

	lk_lock(&m->lock);
	while (!m->stop && ours) {
		if (lk_cond_timedwait(&m->cond, &m->lock, clock_mono_ns() + m->interval_ns) == 0)
			continue;
		lk_unlock(&m->lock);
		ours = mmp_beat(fs, m);
		lk_lock(&m->lock);
	}
	lk_unlock(&m->lock);
	return NULL;
}

int fs_mmp_start(struct fs *fs, struct fs_error *err)
{
	struct fs_mmp *m;
	struct utsname un;
	int ret;

	if (!fs->sb.mmp_interval_s || fs->opts.readonly)
		return 0;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->interval_ns = fs->sb.mmp_interval_s * 1000000000ull;
	if (uname(&un) == 0)
		memcpy(m->node, un.nodename, sizeof(m->node));
	lk_mutex_init(&m->lock, LK_LEAF, "mmp");
	lk_cond_init(&m->cond);
	fs->mmp = m;
	m->block = aligned_alloc(OD_MBLK_SIZE, OD_MBLK_SIZE);
	ret = m->block ? mmp_take(fs, m, err) : -ENOMEM;
	if (ret)
		return ret;
	ret = -pthread_create(&m->thread, NULL, mmp_main, fs);
	m->running = ret == 0;
	if (m->running)
		pthread_setname_np(m->thread, "iomapfs-mmp");
	return ret;
}

int fs_mmp_arm(struct fs *fs, struct fs_error *err)
{
	struct fs_mmp *m = fs->mmp;

	if (!m)
		return 0;
	atomic_store(&m->armed, true);
	if (!atomic_load(&m->lost))
		return 0;
	fs_error_set(err, "%s was taken over by another host during the mount", device_name(fs));
	return -EBUSY;
}

void fs_mmp_stop(struct fs *fs)
{
	struct fs_mmp *m = fs->mmp;
	uint64_t seq;

	if (!m)
		return;
	if (m->running) {
		lk_lock(&m->lock);
		m->stop = true;
		pthread_cond_signal(&m->cond);
		lk_unlock(&m->lock);
		pthread_join(m->thread, NULL);
	}
	/* Another's name stays. A failed device keeps ours: the next mount waits a little. */
	if (m->block && m->seq != OD_MMP_CLEAN && mmp_read(fs, m, &seq) == 0 && seq == m->seq)
		(void)mmp_write(fs, m, OD_MMP_CLEAN);
	pthread_cond_destroy(&m->cond);
	lk_mutex_destroy(&m->lock);
	free(m->block);
	free(m);
	fs->mmp = NULL;
}

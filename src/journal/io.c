/* SPDX-License-Identifier: MIT */
/* Many block writes at once, with no allocation on the way. */
#include <stdlib.h>

#include "journal_private.h"

int jnl_io_create(struct bd *bd, struct jnl_io **out)
{
	struct jnl_io *jio = calloc(1, sizeof(*jio));

	if (!jio)
		return -ENOMEM;
	jio->bd = bd;
	lk_mutex_init(&jio->lock, LK_LEAF, "jnl_io.lock");
	lk_cond_init(&jio->cond);
	*out = jio;
	return 0;
}

void jnl_io_destroy(struct jnl_io *jio)
{
	if (!jio)
		return;
	assert(jio->pending == 0);
	pthread_cond_destroy(&jio->cond);
	lk_mutex_destroy(&jio->lock);
	free(jio);
}

static void write_end(struct bd_io *io)
{
	struct jnl_io *jio = io->private;

	lk_lock(&jio->lock);
	if (io->error && !jio->error)
		jio->error = io->error;
	if (--jio->pending == 0)
		pthread_cond_signal(&jio->cond);
	lk_unlock(&jio->lock);
}

/* How many entries from the first on lie side by side on the device. */
static size_t run_length(const struct jnl_ent *ents, size_t nr, size_t max)
{
	size_t n = 1;

	while (n < nr && n < max && ents[n].mblk == ents[n - 1].mblk + 1)
		n++;
	return n;
}

/* At most JNL_IO_SEGS entries. */
static int write_chunk(struct jnl_io *jio, const struct jnl_ent *ents, size_t nr)
{
	size_t max_run = MAX(1u, MIN(jio->bd->info.max_segments, JNL_IO_SEGS));
	unsigned nr_ios = 0;

	assert(nr > 0 && nr <= JNL_IO_SEGS);
	for (size_t i = 0; i < nr;) {
		size_t n = run_length(ents + i, nr - i, max_run);

		for (size_t k = i; k < i + n; k++)
			jio->iov[k] = (struct iovec){ ents[k].data, OD_MBLK_SIZE };
		jio->ios[nr_ios++] = (struct bd_io){
			.op = BD_WRITE, .flags = BD_META,
			.offset = ents[i].mblk << OD_MBLK_SHIFT, .len = n * OD_MBLK_SIZE,
			.iov = &jio->iov[i], .nr_iov = (unsigned)n,
			.end_io = write_end, .private = jio,
		};
		i += n;
	}
	/* Counted before the first is sent: a memory device ends each inside bd_submit. */
	jio->pending = nr_ios;
	jio->error = 0;
	bd_plug(jio->bd);
	for (unsigned i = 0; i < nr_ios; i++)
		bd_submit(jio->bd, &jio->ios[i]);
	bd_unplug(jio->bd);
	lk_lock(&jio->lock);
	while (jio->pending)
		lk_cond_wait(&jio->cond, &jio->lock);
	lk_unlock(&jio->lock);
	return jio->error;
}

int jnl_io_write(struct jnl_io *jio, const struct jnl_ent *ents, size_t nr)
{
	for (size_t i = 0; i < nr; i += JNL_IO_SEGS) {
		int err = write_chunk(jio, ents + i, MIN(nr - i, (size_t)JNL_IO_SEGS));

		if (err)
			return err;
	}
	return 0;
}

int jnl_ent_cmp(const void *a, const void *b)
{
	const struct jnl_ent *x = a, *y = b;

	return x->mblk < y->mblk ? -1 : x->mblk > y->mblk;
}

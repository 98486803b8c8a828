/* SPDX-License-Identifier: MIT */
/*
 * Error sequence: the last writeback error of a file together with a counter, in
 * one word that is compared as a whole.
 *
 *	bits 0..11   errno, positive; 0 with counter 0: never an error
 *	bit  12      SEEN: somebody looked at this very value
 *	bits 13..31  counter
 *
 * The counter moves only if the value was seen: what nobody looked at can be
 * overwritten without anybody missing an error, and so it wraps slowly.
 */
#include "iomapfs/folio.h"
#include "iomapfs/util.h"

#define ERRSEQ_ERRNO_MASK 0xfffu
#define ERRSEQ_SEEN       (1u << 12)
#define ERRSEQ_CTR        (1u << 13)

void errseq_set(errseq_t *e, int err)
{
	uint32_t old = atomic_load(&e->v), new;

	assert(err < 0 && -err <= (int)ERRSEQ_ERRNO_MASK);
	do {
		new = (old & ~(ERRSEQ_ERRNO_MASK | ERRSEQ_SEEN)) | (uint32_t)-err;
		if (old & ERRSEQ_SEEN)
			new += ERRSEQ_CTR;
		if (new == old)
			return;
	} while (!atomic_compare_exchange_weak(&e->v, &old, new));
}

errseq_mark_t errseq_sample(errseq_t *e)
{
	uint32_t cur = atomic_load(&e->v);

	/* An error that nobody saw must still reach this opener: it differs from 0. */
	return cur & ERRSEQ_SEEN ? cur : 0;
}

int errseq_check(errseq_t *e, errseq_mark_t since)
{
	uint32_t cur = atomic_load(&e->v);

	return cur == since ? 0 : -(int)(cur & ERRSEQ_ERRNO_MASK);
}

int errseq_check_and_advance(errseq_t *e, errseq_mark_t *since)
{
	uint32_t cur = atomic_load(&e->v), seen;

	if (cur == *since)
		return 0;
	/*
	 * If the exchange loses, it lost to a newer error or to another reader's SEEN
	 * bit; the value we report was current when we looked, and the newer one
	 * differs from the mark, so the next check reports it.
	 */
	seen = cur | ERRSEQ_SEEN;
	if (seen != cur)
		atomic_compare_exchange_strong(&e->v, &cur, seen);
	*since = seen;
	return -(int)(seen & ERRSEQ_ERRNO_MASK);
}

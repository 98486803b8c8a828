/* SPDX-License-Identifier: MIT */
/* Caller memory: a cursor over an iovec array. */
#include "iomap_private.h"

void iov_iter_init(struct iov_iter *i, const struct iovec *iov, unsigned nr, size_t count)
{
	i->iov = iov;
	i->nr_iov = nr;
	i->iov_offset = 0;
	i->count = count;
}

enum uio_dir { UIO_TO, UIO_FROM, UIO_ZERO, UIO_SKIP };

static void uio_move(enum uio_dir dir, char *user, char *kern, size_t n)
{
	if (dir == UIO_TO)
		data_copy(user, kern, n);
	else if (dir == UIO_FROM)
		data_copy(kern, user, n);
	else if (dir == UIO_ZERO)
		data_zero(user, n);
}

static size_t uio_walk(struct iov_iter *i, enum uio_dir dir, char *kern, size_t n)
{
	size_t done = 0;

	n = MIN(n, i->count);
	while (done < n && i->nr_iov) {
		size_t room = i->iov->iov_len - i->iov_offset;
		size_t part = MIN(room, n - done);

		if (part)
			uio_move(dir, (char *)i->iov->iov_base + i->iov_offset,
				 kern ? kern + done : NULL, part);
		done += part;
		i->iov_offset += part;
		/* The cursor stays behind the last byte used so that revert needs no lookahead. */
		if (i->iov_offset == i->iov->iov_len && i->nr_iov > 1) {
			i->iov++;
			i->nr_iov--;
			i->iov_offset = 0;
		} else if (part == 0) {
			break;
		}
	}
	i->count -= done;
	return done;
}

size_t iov_iter_copy_from(struct iov_iter *i, void *dst, size_t n)
{
	/* A test shortens n here, as a fault in the middle of the kernel's copy would. */
	HOOK("iomap:copy_from", &n);
	return uio_walk(i, UIO_FROM, dst, n);
}

size_t iov_iter_copy_to(struct iov_iter *i, const void *src, size_t n)
{
	return uio_walk(i, UIO_TO, (char *)(uintptr_t)src, n);
}

size_t iov_iter_zero(struct iov_iter *i, size_t n)
{
	return uio_walk(i, UIO_ZERO, NULL, n);
}

void iov_iter_advance(struct iov_iter *i, size_t n)
{
	uio_walk(i, UIO_SKIP, NULL, n);
}

/* Only over bytes that were consumed from this iterator: earlier iovecs are still in place. */
void iov_iter_revert(struct iov_iter *i, size_t n)
{
	i->count += n;
	while (n > i->iov_offset) {
		n -= i->iov_offset;
		i->iov--;
		i->nr_iov++;
		i->iov_offset = i->iov->iov_len;
	}
	i->iov_offset -= n;
}

void *iomap_iov_peek(struct iov_iter *i, size_t *len)
{
	while (i->iov_offset == i->iov->iov_len && i->nr_iov > 1) {
		i->iov++;
		i->nr_iov--;
		i->iov_offset = 0;
	}
	*len = MIN(i->iov->iov_len - i->iov_offset, i->count);
	return (char *)i->iov->iov_base + i->iov_offset;
}
